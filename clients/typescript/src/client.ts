// A log and the services on it, by the address of a server.

import { OtherProtocol } from "./errors.js";
import { type Names, entries, known, texts } from "./given.js";
import { Transport } from "./http.js";
import type { ToJson } from "./json.js";
import { Lease, freshSecret, held } from "./lease.js";
import type { LeaseLost } from "./errors.js";
import {
  type Appended,
  type Cut,
  type Event,
  type Expect,
  type Filter,
  NewEvent,
  type NoMatch,
  type Placed,
  conditions,
  placedOf,
} from "./log.js";
import { type Place, readPlace, writePlace } from "./place.js";
import { IDLE_MS, Patience, readAll, readOne } from "./reads.js";
import { milliseconds, untilDone } from "./retry.js";
import { type Call, Caller, LOG, REGISTRY, lacking, otherLog } from "./rpc.js";
import { type Outcome, type QueryOptions, type SendOptions, Session, type ViewAnswer } from "./session.js";
import type { Version } from "./wire/http.js";
import * as wire from "./wire/log.js";
import * as registry from "./wire/registry.js";

/**
 * The version of the protocol that is spoken here. A server that is one version newer or older
 * works too.
 */
export const PROTOCOL = 1;

const DESCRIBE = { path: `${LOG}Describe`, request: wire.DescribeRequest, answer: wire.DescribeResponse };
const APPEND = { path: `${LOG}Append`, request: wire.AppendRequest, answer: wire.AppendResponse, changes: true };
const FIND = { path: `${LOG}Find`, request: wire.FindRequest, answer: wire.FindResponse };
const HEAD = { path: `${LOG}Head`, request: wire.HeadRequest, answer: wire.HeadResponse };
const REGISTER = {
  path: `${REGISTRY}RegisterService`,
  request: registry.RegisterRequest,
  answer: registry.RegisterResponse,
  changes: true,
};
const LIST = { path: `${REGISTRY}List`, request: registry.ListRequest, answer: registry.ListResponse };

/** How anything is waited for. */
export interface Waiting {
  /** How long it may take with all its attempts, in milliseconds. */
  readonly timeoutMs?: number;
  /** Gives it up. What was sent may then have happened. */
  readonly signal?: AbortSignal;
}

/** How a log is opened. */
export interface OpenOptions extends Waiting {
  /** The id of the log that is meant; if nothing is said, whichever is there. */
  readonly log?: string;
}

/** What an append asks for. */
export interface AppendOptions extends Waiting {
  /** In which state the events' stream must be, or which streams. */
  readonly expect?: Expect | Readonly<Record<string, Expect>>;
  readonly noMatch?: NoMatch;
}

/** How a log is read. */
export interface ReadOptions {
  /** What it includes is passed over; backward, it is what is read. */
  readonly cut?: Cut;
  /** Newest first. */
  readonly backward?: boolean;
  /** It ends with `Unreachable` when nothing new has come for so long, in milliseconds. */
  readonly patienceMs?: number;
  readonly signal?: AbortSignal;
}

/** How a stream is read. */
export interface ReadStreamOptions {
  /** The first version that is wanted. */
  readonly start?: bigint | number;
  /** The first version that is not wanted any more. */
  readonly end?: bigint | number;
  /** Newest first. */
  readonly backward?: boolean;
  /** It ends with `Unreachable` when nothing new has come for so long, in milliseconds. */
  readonly patienceMs?: number;
  readonly signal?: AbortSignal;
}

/** How a log is followed. */
export interface FollowOptions {
  /** What it includes is passed over. */
  readonly cut?: Cut;
  /** How long a server may be away, in milliseconds. */
  readonly patienceMs?: number;
  /** How long it may say nothing whole before it is asked again, in milliseconds; a minute. */
  readonly idleMs?: number;
  readonly signal?: AbortSignal;
}

/** How a log is consumed. */
export interface ConsumeOptions {
  /** Where the place is kept. */
  readonly place: Place;
  readonly filter?: Filter;
  /** Asked after each event: whether that was the last one. */
  readonly until?: () => boolean;
  /** How long a server may be away, in milliseconds. */
  readonly patienceMs?: number;
  /** How long it may say nothing whole before it is asked again, in milliseconds; a minute. */
  readonly idleMs?: number;
  readonly signal?: AbortSignal;
}

/** What a service says of itself when it registers. */
export interface Registration extends Waiting {
  /** The categories that it alone appends to. */
  readonly owns?: readonly string[];
  /** Where it is asked, such as `http://127.0.0.1:4077`. */
  readonly address?: string;
  readonly views?: readonly string[];
  readonly reads?: readonly string[];
  readonly sends?: readonly string[];
  /** What of that it keeps to itself, with the types of events that others read all the same. */
  readonly private?: { readonly [category: string]: readonly string[] };
  readonly program?: string;
  readonly version?: string;
  /** That of its lease before: it takes over from itself at once; see `keptSecret`. */
  readonly secret?: string;
  /** How long the lease lasts if it is not renewed. */
  readonly leaseTimeMs?: number;
  /** Called when somebody else has followed. */
  readonly onLost?: (error: LeaseLost) => void;
}

const WAITING: Names<Waiting> = { timeoutMs: true, signal: true };
const OPEN: Names<OpenOptions> = { ...WAITING, log: true };
const APPEND_OPTIONS: Names<AppendOptions> = { ...WAITING, expect: true, noMatch: true };
const READ: Names<ReadOptions> = { cut: true, backward: true, patienceMs: true, signal: true };
const READ_STREAM: Names<ReadStreamOptions> = {
  start: true,
  end: true,
  backward: true,
  patienceMs: true,
  signal: true,
};
const FOLLOW: Names<FollowOptions> = { cut: true, patienceMs: true, idleMs: true, signal: true };
const CONSUME: Names<ConsumeOptions> = {
  place: true,
  filter: true,
  until: true,
  patienceMs: true,
  idleMs: true,
  signal: true,
};
const REGISTRATION: Names<Registration> = {
  ...WAITING,
  owns: true,
  address: true,
  views: true,
  reads: true,
  sends: true,
  private: true,
  program: true,
  version: true,
  secret: true,
  leaseTimeMs: true,
  onLost: true,
};

/**
 * Opens the log, and what is served beside it, at an address such as http://127.0.0.1:7400.
 *
 * Every request names the log from then on, so another one that gets the address later is never
 * taken for it. `timeoutMs` is what anything may take if nothing else is said; thirty seconds.
 */
export async function open(url: string, options: OpenOptions = {}): Promise<Client> {
  const { log, timeoutMs = 30_000, signal } = known("open", options, OPEN);
  const transport = new Transport(url);
  const nameless = new Caller(transport, "");
  const version = await untilDone(timeoutMs, signal, (withinMs) => nameless.version(withinMs, signal));
  if (log !== undefined && version.log !== log) {
    throw otherLog(log, version.log);
  }
  if (Math.abs(version.protocol - PROTOCOL) > 1) {
    const which = version.protocol > PROTOCOL ? "newer" : "older";
    throw new OtherProtocol(
      "other-protocol",
      `the server speaks version ${version.protocol} of the protocol, and this client version ${PROTOCOL}; use a ${which} client`,
    );
  }
  return new Client(transport, version, timeoutMs);
}

/** What `open` gives. */
export class Client {
  /** The id of the log. */
  readonly log: string;
  /** The version of the server's program. */
  readonly server: string;
  readonly #caller: Caller;

  constructor(
    transport: Transport,
    version: Version,
    readonly timeoutMs: number,
  ) {
    this.#caller = new Caller(transport, version.log);
    this.log = version.log;
    this.server = version.version;
  }

  /** Where the server is. */
  get url(): string {
    return this.#caller.transport.url;
  }

  /** What the log can do, and how large the parts of an append may be. */
  async capabilities(waiting: Waiting = {}): Promise<wire.Capabilities> {
    known("capabilities", waiting, WAITING);
    const answer = await this.#ask(DESCRIBE, { protocol: PROTOCOL }, waiting);
    if (answer.capabilities === undefined) {
      throw lacking("it has no capabilities");
    }
    return answer.capabilities;
  }

  /**
   * Appends events, all of them or none; resolves when they are durable.
   *
   * It is repeated while that makes sense: an event is written once, because it has an id. Rejects
   * with `Conflict`, `Matched`, `NotOwner` or another `AnabranchError`.
   */
  append(events: NewEvent | readonly NewEvent[], options: AppendOptions = {}): Promise<Appended> {
    return this.#append(events, options, "");
  }

  async #append(
    events: NewEvent | readonly NewEvent[],
    options: AppendOptions,
    lease: string,
  ): Promise<Appended> {
    known("append", options, APPEND_OPTIONS);
    const all = Array.isArray(events) ? (events as readonly NewEvent[]) : [events as NewEvent];
    if (!all.every((event) => event instanceof NewEvent)) {
      throw new TypeError("what is appended is a NewEvent, or a list of them");
    }
    const request = {
      events: all.map((event) => event.message()),
      conditions: conditions(all, options.expect, options.noMatch),
      lease,
    };
    const answer = await this.#ask(APPEND, request, options);
    if (answer.places.length !== all.length) {
      throw lacking(`its places are ${answer.places.length}, of ${all.length} events`, "maybe");
    }
    return { places: answer.places.map(placedOf), repeated: answer.repeated };
  }

  /** Every durable event there is now, as a cut. */
  async head(waiting: Waiting = {}): Promise<Cut> {
    known("head", waiting, WAITING);
    const answer = await this.#ask(HEAD, {}, waiting);
    if (answer.head === undefined) {
      throw lacking("it has no head");
    }
    return { ...answer.head.counts };
  }

  /** Where the event with this id stands; undefined: it was not written, or may not be read. */
  async find(id: string, waiting: Waiting = {}): Promise<Placed | undefined> {
    known("find", waiting, WAITING);
    const answer = await this.#ask(FIND, { id }, waiting);
    return answer.placed === undefined ? undefined : placedOf(answer.placed);
  }

  /** The events there are now, in their order. */
  async *read(filter: Filter = {}, options: ReadOptions = {}): AsyncGenerator<Event, void, undefined> {
    const { backward = false, signal } = known("read", options, READ);
    const from = options.cut ?? (backward ? await this.head(signal ? { signal } : {}) : {});
    const mode = backward ? "READ_MODE_BACKWARD" : "READ_MODE_TO_HEAD";
    for await (const [event] of readAll(this.#caller, filter, from, mode, this.#patience(options))) {
      yield event;
    }
  }

  /** The events of one stream there are now: from version `start` to before `end`. */
  async *readStream(
    stream: string,
    options: ReadStreamOptions = {},
  ): AsyncGenerator<Event, void, undefined> {
    const { start = 0, end, backward = false } = known("readStream", options, READ_STREAM);
    const before = end === undefined ? undefined : BigInt(end);
    yield* readOne(this.#caller, stream, BigInt(start), before, backward, this.#patience(options));
  }

  /**
   * Events as they come, for ever: first those behind `cut`, then each new one.
   *
   * It goes on where it was when the server is restarted: no gap, and no event twice. A server that
   * is away for longer than the patience ends it with `Unreachable`. One that says nothing whole for
   * long is asked again: it may have gone without a word.
   */
  async *follow(filter: Filter = {}, options: FollowOptions = {}): AsyncGenerator<Event, void, undefined> {
    known("follow", options, FOLLOW);
    for await (const [event] of this.#following(filter, options.cut ?? {}, options)) {
      yield event;
    }
  }

  /**
   * Calls a function for each event, and keeps the place behind it when it is done.
   *
   * Started again, it goes on there; an event whose function has failed comes again. It ends when
   * the function fails, when `until` says so after an event, or with an `AbortError` by `signal`.
   */
  async consume(
    handle: (event: Event) => Promise<void> | void,
    options: ConsumeOptions,
  ): Promise<void> {
    const { place, filter = {}, until } = known("consume", options, CONSUME);
    const cut = readPlace(this.log, await place.load());
    for await (const [event, behind] of this.#following(filter, cut, options)) {
      await handle(event);
      await place.save(writePlace(this.log, behind));
      if (until?.()) {
        return;
      }
    }
  }

  #following(
    filter: Filter,
    cut: Cut,
    options: { patienceMs?: number; idleMs?: number; signal?: AbortSignal },
  ): AsyncGenerator<[Event, Cut], void, undefined> {
    const patience = this.#patience(options, options.idleMs ?? IDLE_MS);
    return readAll(this.#caller, filter, cut, "READ_MODE_FOLLOW", patience);
  }

  #patience(options: { patienceMs?: number; signal?: AbortSignal }, idleMs?: number): Patience {
    return new Patience(options.patienceMs ?? this.timeoutMs, idleMs, options.signal);
  }

  /** Commands and queries that see one another; `token` is that of an earlier session. */
  session(token?: string): Session {
    return new Session(this.#caller, this.timeoutMs, token);
  }

  /** As `Session.send`, in a session of its own. */
  send(
    stream: string,
    command: string,
    data: ToJson = {},
    options: SendOptions & { token?: string } = {},
  ): Promise<Outcome> {
    const { token, ...rest } = options;
    return this.session(token).send(stream, command, data, rest);
  }

  /** As `Session.query`, in a session of its own; `token` is what it has to see. */
  query(
    view: string,
    name: string,
    fields: { readonly [name: string]: ToJson } = {},
    options: QueryOptions & { token?: string } = {},
  ): Promise<ViewAnswer> {
    const { token, ...rest } = options;
    return this.session(token).query(view, name, fields, rest);
  }

  /**
   * Registers a service: from then on it alone appends to the categories that it owns, by its
   * lease, and the client reads and asks as this service, until the lease is released. Rejects with `Held` where another service has what is claimed.
   */
  async register(name: string, about: Registration = {}): Promise<Lease> {
    known("register", about, REGISTRATION);
    const service = registry.Service.make({
      name,
      address: about.address ?? "",
      program: about.program ?? "",
      version: about.version ?? "",
      owns: texts("owns", about.owns),
      views: texts("views", about.views),
      reads: texts("reads", about.reads),
      sends: texts("sends", about.sends),
      private: entries("private", about.private ?? {}).map(([category, types]) => ({
        category,
        openTypes: texts("private", types),
      })),
    });
    // A secret of one's own: a registration whose answer was lost is repeated as the same.
    const secret = about.secret ?? freshSecret();
    const leaseMs = BigInt(Math.floor(milliseconds("leaseTimeMs", about.leaseTimeMs ?? 10_000)));
    try {
      const answer = await this.#ask(REGISTER, { service, secret, leaseMs }, about);
      const { lease } = answer;
      if (lease === undefined || lease.token === "") {
        throw lacking("it has no lease", "maybe");
      }
      const appendBy = this.#append.bind(this);
      return new Lease(this, this.#caller, name, lease, appendBy, about.onLost);
    } catch (error) {
      throw held(error);
    }
  }

  /** All services, by name, and how their leases are. */
  async services(waiting: Waiting = {}): Promise<registry.Registered[]> {
    known("services", waiting, WAITING);
    return (await this.#ask(LIST, {}, waiting)).services;
  }

  #ask<Q, A>(call: Call<Q, A>, request: Q, { timeoutMs, signal }: Waiting): Promise<A> {
    return untilDone(timeoutMs ?? this.timeoutMs, signal, (withinMs) =>
      this.#caller.call(call, request, withinMs, signal),
    );
  }
}
