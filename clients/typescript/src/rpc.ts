// Calls of the log and the registry, by the Connect protocol with JSON.
//
// Source: the Connect protocol, https://connectrpc.com/docs/protocol.

import { AnabranchError, BadAnswer, OtherLog, Unreachable, ofAppend, ofProblem } from "./errors.js";
import { ANSWER_BYTES_MAX, type Answer, type Stream, type Transport, mediaType, parsed, start } from "./http.js";
import { compose } from "./json.js";
import { type Json, Misshapen, type Shape, isObject } from "./shape.js";
import { type Happened, Problem, Version } from "./wire/http.js";
import { AppendProblem } from "./wire/log.js";

export const LOG = "/anabranch.log.v1.LogService/";
export const REGISTRY = "/anabranch.registry.v1.RegistryService/";

const ENVELOPE_BYTES = 5;
const END = 2;

// By these codes alone a call may have taken effect: see the description of the log's calls.
const MAYBE = ["unknown", "deadline_exceeded"];
const PASSING = [...MAYBE, "unavailable", "aborted"];

/** A call: where to, and what goes there and back. */
export interface Call<Q, A> {
  readonly path: string;
  readonly request: Shape<Q>;
  readonly answer: Shape<A>;
  /** Whether it changes anything. */
  readonly changes?: boolean;
}

/** How long a call whose answers go on is waited for. */
export interface Pace {
  /** A call is made: in how many milliseconds its answer must have begun. */
  begin(): number;
  /** The answer has begun. */
  answered(): void;
  /** In how many milliseconds the next message must have come whole. */
  nextMs(): number;
}

/** Calls at one server, each meant for one log. */
export class Caller {
  /** The tokens of the leases that are held: what is asked for is shown to these services. */
  readonly leases: string[] = [];

  constructor(
    readonly transport: Transport,
    readonly log: string,
  ) {}

  /** What goes along with every request. */
  headers(): Record<string, string> {
    return this.log === "" ? {} : { "anabranch-log": this.log };
  }

  /** What goes along with every request that changes nothing. */
  asking(): Record<string, string> {
    const shown = this.leases.join(", ");
    return { ...this.headers(), ...(shown === "" ? {} : { "anabranch-lease": shown }) };
  }

  /** One call. */
  async call<Q, A>(call: Call<Q, A>, request: Q, withinMs: number, signal?: AbortSignal): Promise<A> {
    const headers = {
      ...(call.changes ? this.headers() : this.asking()),
      "content-type": "application/json",
      "connect-protocol-version": "1",
      "connect-timeout-ms": String(Math.max(Math.floor(withinMs), 1)),
    };
    const body = compose(call.request.write(request));
    const until = performance.now() + withinMs;
    try {
      const got = await this.transport.ask("POST", call.path, headers, body, withinMs, signal);
      if (got.status !== 200) {
        throw refused(got);
      }
      checkMediaType(got.headers, "application/json", got.status);
      return read(call.answer, got.body, call.changes ? "maybe" : "no");
    } catch (error) {
      if (error instanceof AnabranchError && !call.changes) {
        error.happened = "no";
      }
      throw await this.named(error, until, signal);
    }
  }

  /** A call whose answers go on until the server ends it in order. */
  async *stream<Q, A>(
    call: Call<Q, A>,
    request: Q,
    pace: Pace,
    signal?: AbortSignal,
  ): AsyncGenerator<A, void, undefined> {
    const headers = {
      ...this.asking(),
      "content-type": "application/connect+json",
      "connect-protocol-version": "1",
    };
    let stream: Stream | undefined;
    const withinMs = pace.begin();
    const until = performance.now() + withinMs;
    try {
      const body = enveloped(compose(call.request.write(request)));
      stream = await this.transport.stream("POST", call.path, headers, body, withinMs, signal);
      if (stream.status !== 200) {
        const content = await stream.read(1 << 20);
        throw refused({ status: stream.status, headers: stream.headers, body: content });
      }
      checkMediaType(stream.headers, "application/connect+json", stream.status);
      pace.answered();
      for (;;) {
        stream.allow(pace.nextMs());
        const content = await this.message(stream);
        if (content === undefined) {
          return;
        }
        yield read(call.answer, content);
      }
    } catch (error) {
      if (error instanceof AnabranchError) {
        error.happened = "no";
      }
      throw await this.named(error, until, signal);
    } finally {
      stream?.close();
    }
  }

  /** What serves. */
  async version(withinMs: number, signal?: AbortSignal): Promise<Version> {
    const got = await this.transport.ask("GET", "/version", {}, undefined, withinMs, signal);
    if (got.status !== 200) {
      throw refused(got);
    }
    checkMediaType(got.headers, "application/json", got.status);
    return read(Version, got.body);
  }

  /** The next message; undefined at the end. */
  private async message(stream: Stream): Promise<Uint8Array | undefined> {
    const head = await stream.read(ENVELOPE_BYTES);
    if (head.length < ENVELOPE_BYTES) {
      throw cutOff(this.transport.url);
    }
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    const [flags, length] = [view.getUint8(0), view.getUint32(1)];
    if (flags !== 0 && flags !== END) {
      throw new BadAnswer("bad-answer", `a message has the flags ${flags}, which nobody asked for`);
    }
    if (length > ANSWER_BYTES_MAX) {
      const what = `a message is said to have ${length} bytes; at most ${ANSWER_BYTES_MAX} are taken in`;
      throw new BadAnswer("bad-answer", what);
    }
    const content = await stream.read(length);
    if (content.length < length) {
      throw cutOff(this.transport.url);
    }
    if (flags !== END) {
      return content;
    }
    const end = parsed(content);
    const error = isObject(end) ? end["error"] : undefined;
    if (error !== undefined && error !== null) {
      throw ofError(error, undefined, content);
    }
    return undefined;
  }

  /**
   * The same error, by its own name if it is that the server is about another log: calls say that
   * in words alone. Where there is no time left to ask, it stays as it is.
   */
  private async named(error: unknown, until: number, signal?: AbortSignal): Promise<unknown> {
    if (!(error instanceof AnabranchError) || error.code !== "failed-precondition" || this.log === "") {
      return error;
    }
    try {
      const found = (await this.version(Math.max(until - performance.now(), 1), signal)).log;
      return found === this.log ? error : otherLog(this.log, found);
    } catch {
      return error;
    }
  }
}

function enveloped(text: string): Uint8Array {
  const content = Buffer.from(text);
  const head = Buffer.alloc(ENVELOPE_BYTES);
  head.writeUInt32BE(content.length, 1);
  return new Uint8Array(Buffer.concat([head, content]));
}

/** The error that an answer without success is. */
export function refused(answer: Answer): AnabranchError {
  const type = mediaType(answer.headers);
  if (type === "application/problem+json") {
    const token = answer.headers.get("anabranch-token") ?? undefined;
    return ofProblem(read(Problem, answer.body, "maybe"), token);
  }
  if (type === "application/json") {
    const found = parsed(answer.body, "maybe", answer.status);
    if (isObject(found) && typeof found["code"] === "string") {
      return ofError(found, answer.status, answer.body);
    }
  }
  return foreign(answer);
}

function ofError(error: Json, status: number | undefined, body: Uint8Array): AnabranchError {
  const code = isObject(error) ? error["code"] : undefined;
  if (!isObject(error) || typeof code !== "string") {
    const what = `an error without a code: ${start(body)}`;
    return new BadAnswer("bad-answer", what, { happened: "maybe" });
  }
  const message = error["message"];
  const words = typeof message === "string" && message !== "" ? message : "the server gives no reason";
  const details = Array.isArray(error["details"]) ? error["details"] : [];
  for (const detail of details) {
    if (isObject(detail) && detail["type"] === "anabranch.log.v1.AppendProblem" && isObject(detail["debug"])) {
      try {
        return ofAppend(AppendProblem.read(detail["debug"], "the detail"), status);
      } catch (error) {
        if (!(error instanceof Misshapen)) {
          throw error;
        }
      }
    }
  }
  return new AnabranchError(code.replaceAll("_", "-"), words, {
    happened: MAYBE.includes(code) ? "maybe" : "no",
    passing: PASSING.includes(code),
    status,
  });
}

/** A body as what it should be. */
export function read<T>(shape: Shape<T>, body: Uint8Array, happened: Happened = "no"): T {
  try {
    return shape.read(parsed(body, happened), "the answer");
  } catch (error) {
    if (error instanceof Misshapen) {
      throw new BadAnswer("bad-answer", `the answer is not understood: ${error.message}`, { happened });
    }
    throw error;
  }
}

/** An answer without what it is there for. Many a server answers everything with an empty object. */
export function lacking(what: string, happened: Happened = "no"): BadAnswer {
  return new BadAnswer("bad-answer", `the answer is not understood: ${what}`, { happened });
}

/** Refuses an answer that is something else. */
export function checkMediaType(headers: Headers, wanted: string, status: number): void {
  const found = mediaType(headers);
  if (found !== wanted) {
    const what = `the answer is ${found || "of no type"} and not ${wanted}. Is this an Anabranch server?`;
    throw new BadAnswer("bad-answer", what, { happened: "maybe", status });
  }
}

/** The error that somebody between here and the server gives, such as a proxy. */
function foreign(answer: Answer): AnabranchError {
  const { status } = answer;
  const after = answer.headers.get("retry-after");
  const isPassing = [408, 429, 502, 503, 504].includes(status);
  const what = `status ${status} without a problem of Anabranch; it begins with ${start(answer.body)}`;
  const Kind = isPassing ? AnabranchError : BadAnswer;
  return new Kind(isPassing ? "unavailable" : "bad-answer", what, {
    // Whoever says so may have asked the server before.
    happened: status === 429 ? "no" : "maybe",
    passing: isPassing,
    retryAfterMs: after !== null && /^[0-9]{1,9}$/.test(after) ? Number(after) * 1000 : undefined,
    status,
  });
}

/** An answer that ends before its end. */
export function cutOff(url: string): Unreachable {
  const said = { happened: "maybe", passing: true } as const;
  return new Unreachable("unreachable", `the answer of ${url} was cut off`, said);
}

/** The server is about another log. */
export function otherLog(meant: string, found: string): OtherLog {
  const what = `the log ${meant} is meant, and the server is about ${found}; nothing was changed`;
  return new OtherLog("other-log", what);
}
