// Requests over HTTP, by fetch; what went wrong says whether it may have happened.

import { AnabranchError, BadAnswer, Unreachable } from "./errors.js";
import { type Json, parse } from "./json.js";
import { TIMER_MOST_MS } from "./retry.js";
import type { Happened } from "./wire/http.js";

/** The largest answer that is taken in, in bytes. A server sends no larger one. */
export const ANSWER_BYTES_MAX = 64 << 20;

/** A whole answer. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

/** The media type that headers name, without its parameters. */
export function mediaType(headers: Headers): string {
  return (headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
}

/** A body as JSON. */
export function parsed(body: Uint8Array, happened: Happened = "no", status?: number): Json {
  try {
    return parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    throw new BadAnswer(
      "bad-answer",
      `the answer is no JSON (${words}); it begins with ${start(body)}. Is this an Anabranch server?`,
      { happened, status },
    );
  }
}

/** The beginning of a body, for people. */
export function start(body: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(body.subarray(0, 80)));
}

const OVER = "the time for the answer is over";

/** Before anything is sent. */
const NOTHING_SENT = [
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
];

/** Requests to one server. */
export class Transport {
  readonly url: string;

  constructor(url: string) {
    const wrong = `${JSON.stringify(url)} is no address of a server such as http://127.0.0.1:7400`;
    const parts = URL.canParse(url) ? new URL(url) : undefined;
    const isPlain = parts?.pathname === "/" && parts.search + parts.hash + parts.username === "";
    if (parts === undefined || !isPlain || !["http:", "https:"].includes(parts.protocol)) {
      throw new TypeError(wrong);
    }
    this.url = parts.origin;
  }

  /** Sends a request and takes in its answer. All of it together takes `withinMs` at most. */
  async ask(
    method: string,
    path: string,
    headers: Record<string, string>,
    body: string | undefined,
    withinMs: number,
    signal?: AbortSignal,
  ): Promise<Answer> {
    const stream = await this.stream(method, path, headers, body, withinMs, signal);
    try {
      const taken = await stream.rest(ANSWER_BYTES_MAX);
      return { status: stream.status, headers: stream.headers, body: taken };
    } finally {
      stream.close();
    }
  }

  /**
   * Sends a request whose answer may go on. All that is read of it has `withinMs` too, unless the stream
   * is told otherwise.
   */
  async stream(
    method: string,
    path: string,
    headers: Record<string, string>,
    body: string | Uint8Array | undefined,
    withinMs: number,
    signal?: AbortSignal,
  ): Promise<Stream> {
    signal?.throwIfAborted();
    const until = performance.now() + withinMs;
    const controller = new AbortController();
    const late = setTimeout(() => controller.abort(new Error(OVER)), withinMs);
    const onAbort = (): void => controller.abort();
    signal?.addEventListener("abort", onAbort);
    const forget = (): void => signal?.removeEventListener("abort", onAbort);
    try {
      const response = await fetch(this.url + path, {
        method,
        headers: { ...headers, "accept-encoding": "identity" },
        body: body ?? null,
        redirect: "manual",
        signal: controller.signal,
      });
      const broken = (error: unknown): Error => this.broken(error, signal);
      return new Stream(response, until, broken, (isWhole) => {
        forget();
        // To give up what has come whole is a waste of time.
        if (!isWhole) {
          controller.abort();
        }
      });
    } catch (error) {
      forget();
      throw this.broken(error, signal);
    } finally {
      clearTimeout(late);
    }
  }

  /** What it means that a request failed. */
  private broken(error: unknown, signal?: AbortSignal): Error {
    if (error instanceof AnabranchError) {
      return error;
    }
    if (signal?.aborted) {
      return signal.reason instanceof Error ? signal.reason : new Error("aborted");
    }
    const { code, words } = causeOf(error);
    if (code.startsWith("HPE_")) {
      const what = `what answers at ${this.url} is no HTTP: ${words}`;
      return new BadAnswer("bad-answer", what, { happened: "maybe" });
    }
    const said = { passing: true };
    if (NOTHING_SENT.includes(code)) {
      return new Unreachable("unreachable", `${this.url} cannot be reached: ${words}`, said);
    }
    const what = `the connection to ${this.url} broke before the answer: ${words}`;
    return new Unreachable("unreachable", what, { ...said, happened: "maybe" });
  }
}

function causeOf(error: unknown): { code: string; words: string } {
  let code = "";
  let words = String(error);
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    words = at.message || words;
    const found: unknown = "code" in at ? at.code : undefined;
    code = typeof found === "string" ? found : code;
    // A name may have several addresses: what went wrong with the last stands for all.
    if (at instanceof AggregateError && at.errors.length > 0) {
      at = { cause: at.errors.at(-1) };
      return causeOf((at as { cause: unknown }).cause);
    }
  }
  return { code, words: code === "" || words.includes(code) ? words : `${words} (${code})` };
}

/** An answer that goes on. */
export class Stream {
  readonly status: number;
  readonly headers: Headers;
  private readonly reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  private kept: Uint8Array = new Uint8Array();
  private isWhole = false;

  constructor(
    response: Response,
    private until: number,
    private readonly broken: (error: unknown) => Error,
    private readonly end: (isWhole: boolean) => void,
  ) {
    this.status = response.status;
    this.headers = response.headers;
    this.reader = response.body?.getReader();
  }

  /** All that is read from now on has so much time together. */
  allow(ms: number): void {
    this.until = performance.now() + ms;
  }

  /** So many bytes, or fewer at the end. */
  async read(count: number): Promise<Uint8Array> {
    const parts = [this.kept];
    let length = this.kept.length;
    while (length < count) {
      const chunk = await this.chunk();
      if (chunk === undefined) {
        break;
      }
      parts.push(chunk);
      length += chunk.length;
    }
    const all = parts.length === 1 ? this.kept : new Uint8Array(Buffer.concat(parts));
    this.kept = all.subarray(count);
    return all.subarray(0, count);
  }

  /** All that comes, if it is no more than so many bytes. */
  async rest(most: number): Promise<Uint8Array> {
    const all = await this.read(most + 1);
    if (all.length > most) {
      throw new BadAnswer("bad-answer", `the answer is larger than ${most} bytes`, {
        happened: "maybe",
        status: this.status,
      });
    }
    return all;
  }

  /** Ends it. */
  close(): void {
    this.end(this.isWhole);
  }

  private async chunk(): Promise<Uint8Array | undefined> {
    let late: NodeJS.Timeout | undefined;
    try {
      const leftMs = this.until - performance.now();
      if (leftMs <= 0) {
        throw new Error(OVER);
      }
      const over = new Promise<never>((_, reject) => {
        late = setTimeout(() => reject(new Error(OVER)), Math.min(leftMs, TIMER_MOST_MS));
      });
      const read = this.reader?.read() ?? Promise.resolve({ done: true as const, value: undefined });
      const { done, value } = await Promise.race([read, over]);
      this.isWhole = done;
      return done ? undefined : value;
    } catch (error) {
      throw this.broken(error);
    } finally {
      clearTimeout(late);
    }
  }
}
