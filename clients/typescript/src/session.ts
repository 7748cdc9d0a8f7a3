// Commands and queries, and what a client has written and seen.

import { randomUUID } from "node:crypto";

import { AnabranchError } from "./errors.js";
import { type Names, known } from "./given.js";
import { type Json, type ToJson, compose } from "./json.js";
import { type Cut, type Expect, checkedState } from "./log.js";
import { Again, milliseconds, sleep, untilDone } from "./retry.js";
import { type Caller, checkMediaType, cutOff, read, refused } from "./rpc.js";
import { CommandOutcome, QueryAnswer, type RecordedEvent, type SagaEnded } from "./wire/http.js";

const TOKEN = "anabranch-token";
/** How long one attempt waits for the end of a saga, in seconds. */
const SAGA_MOST = 8;

/** What has become of a command. */
export interface Outcome {
  readonly stream: string;
  /** Its id. */
  readonly command: string;
  /**
   * Whether a saga has taken it: it is durable, and what follows from it is done later. An entity
   * has done it when it answers.
   */
  readonly taken: boolean;
  /** The version of the entity's last event; undefined: it has none. */
  readonly version: bigint | undefined;
  /** Whether it had been done before, and this is the first outcome. */
  readonly repeated: boolean;
  readonly events: RecordedEvent[];
  /** How the saga that has taken it has ended, if that was waited for, and it has. */
  readonly ended: SagaEnded | undefined;
  /** What the client has now written and seen: a query with it sees this. */
  readonly token: string | undefined;
}

/** A view's answer, from one unchanging state of it. */
export interface ViewAnswer {
  readonly value: Json;
  /** How far into the log it reaches. */
  readonly cut: Cut;
  /** Whether it lacks something that the client has seen, which it has allowed. */
  readonly stale: boolean;
  readonly token: string | undefined;
}

/** How a command is sent. */
export interface SendOptions {
  /**
   * Names the command: sending it again with the same key gives the first outcome. If nothing is
   * said, a new one is made and kept over all attempts.
   */
  readonly key?: string;
  /** The version that the entity must be at, `empty` or `exists`. */
  readonly expect?: Expect;
  readonly traceparent?: string;
  /**
   * What it depends on: positions and tokens such as `3:17, TOKEN`, or `root`. If nothing is said,
   * what the session has seen.
   */
  readonly causes?: string;
  /** How long the end of the saga is waited for that has taken it. */
  readonly waitMs?: number;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** How a view is asked. */
export interface QueryOptions {
  /** What it does while it is behind: `wait=5s`, `fail` or `stale`. */
  readonly policy?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const WAITING = { timeoutMs: true, signal: true } as const;
const SEND: Names<SendOptions> = { ...WAITING, key: true, expect: true, traceparent: true, causes: true, waitMs: true };
const QUERY: Names<QueryOptions> = { ...WAITING, policy: true };

/**
 * One client's commands and queries, one after the other: each sees what came before.
 *
 * Who handles requests of many people has a session for each of them, and keeps its `token` with
 * them.
 */
export class Session {
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly caller: Caller,
    private readonly timeoutMs: number,
    public token?: string,
  ) {}

  /**
   * Sends a command to an entity, `category/key`, and waits until it is done. A saga has only taken
   * it then; `waitMs` says how long its end is waited for.
   */
  async send(
    stream: string,
    command: string,
    data: ToJson = {},
    options: SendOptions = {},
  ): Promise<Outcome> {
    known("send", options, SEND);
    const sent = (): Promise<Outcome> =>
      send(this.caller, stream, command, data, within(this.timeoutMs, options), this.token);
    return this.next(sent);
  }

  /** Asks a view. */
  async query(
    view: string,
    name: string,
    fields: { readonly [name: string]: ToJson } = {},
    options: QueryOptions = {},
  ): Promise<ViewAnswer> {
    known("query", options, QUERY);
    const asked = (): Promise<ViewAnswer> =>
      query(this.caller, view, name, fields, within(this.timeoutMs, options), this.token);
    return this.next(asked);
  }

  /**
   * Everything that is in the log now counts as seen: what it asks from now on has it. So a view
   * shows what was read or appended beside the session.
   */
  async catchUp(options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {}): Promise<void> {
    const { timeoutMs = this.timeoutMs, signal } = known("catchUp", options, WAITING);
    await this.next(async () => ({ token: await headToken(this.caller, timeoutMs, signal) }));
  }

  private next<T extends { token: string | undefined }>(what: () => Promise<T>): Promise<T> {
    const done = this.last.then(async () => {
      try {
        const came = await what();
        this.token = came.token ?? this.token;
        return came;
      } catch (error) {
        if (error instanceof AnabranchError) {
          this.token = error.token ?? this.token;
        }
        throw error;
      }
    });
    this.last = done.catch(() => undefined);
    return done;
  }
}

/** The same options, and how long it may take if they say nothing. */
function within<T extends { readonly timeoutMs?: number }>(timeoutMs: number, options: T): T & { timeoutMs: number } {
  return { ...options, timeoutMs: options.timeoutMs ?? timeoutMs };
}

async function send(
  caller: Caller,
  stream: string,
  command: string,
  data: ToJson,
  options: SendOptions & { timeoutMs: number },
  token: string | undefined,
): Promise<Outcome> {
  const slash = stream.indexOf("/");
  if (slash < 1 || slash === stream.length - 1) {
    throw new TypeError(`${JSON.stringify(stream)} is no stream: it is written category/key`);
  }
  const address = `/commands/${part(stream.slice(0, slash))}/${part(stream.slice(slash + 1))}`;
  const headers: Record<string, string> = {
    ...caller.headers(),
    "content-type": "application/json",
    "idempotency-key": header("an idempotency key", options.key ?? randomUUID()),
    ...(token === undefined ? {} : { [TOKEN]: header("a token", token) }),
  };
  const { expect, traceparent, causes } = options;
  if (expect !== undefined && checkedState(expect) !== "any") {
    const name = expect === "empty" ? "if-none-match" : "if-match";
    headers[name] = typeof expect === "string" ? "*" : `"${BigInt(expect)}"`;
  }
  if (traceparent !== undefined) {
    headers["traceparent"] = header("a traceparent", traceparent);
  }
  if (causes !== undefined) {
    headers["anabranch-causes"] = header("causes", causes);
  }
  const body = compose(data);
  const deadline = performance.now() + milliseconds("waitMs", options.waitMs ?? 0);
  const again = new Again();
  let waited = false;
  const once = async (withinMs: number): Promise<Outcome> => {
    const leftMs = deadline - performance.now();
    // The server says in time that it does not know; a while is kept for that to arrive.
    const withinServerMs = withinMs - Math.min(1_000, withinMs / 4);
    if (options.waitMs !== undefined) {
      const seconds = Math.floor(Math.min(leftMs, withinServerMs) / 1000);
      headers["prefer"] = `wait=${Math.max(1, Math.min(seconds, SAGA_MOST))}`;
    }
    const waitMs = Math.max(Math.floor(withinServerMs), 1);
    const query = new URLSearchParams({ type: command, timeout: `${waitMs}ms` });
    const path = `${address}?${query}`;
    const got = await caller.transport.ask("POST", path, headers, body, withinMs, options.signal);
    if (got.status !== 200 && got.status !== 202) {
      throw refused(got);
    }
    checkMediaType(got.headers, "application/json", got.status);
    // A server that does not wait is not asked again.
    waited = got.headers.has("preference-applied");
    const { version, ended, ...rest } = read(CommandOutcome, got.body, "maybe");
    return { ...rest, version, ended, token: got.headers.get(TOKEN) ?? undefined };
  };
  for (;;) {
    const outcome = await untilDone(options.timeoutMs, options.signal, once);
    const isOver = !outcome.taken || outcome.ended !== undefined || !waited;
    const leftMs = deadline - performance.now();
    if (isOver || leftMs <= 0) {
      return outcome;
    }
    // A server that waits for less than it was asked to is not asked without a pause.
    await sleep(Math.min(again.pauseMs(), leftMs), options.signal);
  }
}

async function query(
  caller: Caller,
  view: string,
  name: string,
  fields: { readonly [name: string]: ToJson },
  options: QueryOptions & { timeoutMs: number },
  token: string | undefined,
): Promise<ViewAnswer> {
  const path = `/views/${part(view)}/${part(name)}?${new URLSearchParams({ q: compose(fields) })}`;
  const headers: Record<string, string> = {
    ...caller.asking(),
    ...(token === undefined ? {} : { [TOKEN]: header("a token", token) }),
    ...(options.policy === undefined ? {} : { "anabranch-policy": header("a policy", options.policy) }),
  };
  return untilDone(options.timeoutMs, options.signal, async (withinMs) => {
    try {
      const got = await caller.transport.ask("GET", path, headers, undefined, withinMs, options.signal);
      if (got.status !== 200) {
        throw refused(got);
      }
      checkMediaType(got.headers, "application/json", got.status);
      const answer = read(QueryAnswer, got.body);
      const cut = Object.entries(answer.cut).map(([partition, count]) => [Number(partition), count]);
      return {
        value: answer.value,
        cut: Object.fromEntries(cut) as Cut,
        stale: answer.stale,
        token: got.headers.get(TOKEN) ?? undefined,
      };
    } catch (error) {
      if (error instanceof AnabranchError) {
        // A query changes nothing.
        error.happened = "no";
      }
      throw error;
    }
  });
}

/** What has seen everything that is in the log now. */
function headToken(caller: Caller, timeoutMs: number, signal: AbortSignal | undefined): Promise<string> {
  return untilDone(timeoutMs, signal, async (withinMs) => {
    try {
      const path = "/events?from=head&until=head";
      const got = await caller.transport.ask("GET", path, caller.asking(), undefined, withinMs, signal);
      if (got.status !== 200) {
        throw refused(got);
      }
      checkMediaType(got.headers, "text/event-stream", got.status);
      const found = /^id: ?([\x20-\x7e]+)$/m.exec(new TextDecoder().decode(got.body));
      if (found?.[1] === undefined) {
        throw cutOff(caller.transport.url);
      }
      return found[1];
    } catch (error) {
      if (error instanceof AnabranchError) {
        error.happened = "no";
      }
      throw error;
    }
  });
}

/** A part of a path. A slash in it is escaped too, so it stays one. */
function part(text: string): string {
  if (text === "." || text === "..") {
    // An address with it would be another one: fetch takes them for folders.
    throw new TypeError(`${JSON.stringify(text)} cannot stand in an address; take another name`);
  }
  return encodeURIComponent(text);
}

function header(what: string, value: string): string {
  if (!/^[\x20-\x7e]+$/.test(value)) {
    throw new TypeError(`${what} is printable ASCII, not ${JSON.stringify(value)}`);
  }
  return value;
}
