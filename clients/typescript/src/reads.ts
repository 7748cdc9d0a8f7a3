// Reads that go on where they were when the connection breaks: no gap, and no event twice.

import { AnabranchError, Unreachable } from "./errors.js";
import { type Cut, Event, type Filter, checkedCut, filterTo } from "./log.js";
import { ATTEMPT_MOST_MS, Again, leastMs, milliseconds, sleep } from "./retry.js";
import { type Call, type Caller, LOG, type Pace } from "./rpc.js";
import * as wire from "./wire/log.js";

/** How long a server may say nothing before a follower asks again, if nothing else is said. */
export const IDLE_MS = 60_000;

/** A call that went on for so long was answered, even if there was nothing to say. */
const ANSWERED_MS = 5_000;

const READ: Call<wire.ReadRequest, wire.ReadResponse> = {
  path: `${LOG}Read`,
  request: wire.ReadRequest,
  answer: wire.ReadResponse,
};
const READ_STREAM: Call<wire.ReadStreamRequest, wire.ReadResponse> = {
  path: `${LOG}ReadStream`,
  request: wire.ReadStreamRequest,
  answer: wire.ReadResponse,
};

/**
 * How long a reader waits, when it asks again, and when its patience is at its end.
 *
 * That is so when nothing new has come for as long as the patience is, however much the server says.
 * Who follows is content with a server that is there and has nothing to say.
 */
export class Patience implements Pace {
  private readonly again = new Again();
  /**
   * Since when something new is waited for; undefined: it is not. What the reader's caller does with
   * an event is its own time.
   */
  private since: number | undefined;
  private began = 0;
  private isAnswered = false;

  /** @param idleMs How long a server may say nothing to who follows; undefined: nobody follows. */
  constructor(
    private readonly patienceMs: number,
    private readonly idleMs: number | undefined,
    readonly signal: AbortSignal | undefined,
  ) {
    milliseconds("patienceMs", patienceMs);
    milliseconds("idleMs", idleMs ?? 0);
  }

  /** A call is made: in how many milliseconds its answer must have begun. */
  begin(): number {
    this.began = performance.now();
    this.isAnswered = false;
    this.since ??= this.began;
    // Who follows with little patience would otherwise call a server away that is slow.
    const leastMs = this.idleMs === undefined ? 1 : 1_000;
    return Math.min(Math.max(this.leftMs(), leastMs), ATTEMPT_MOST_MS);
  }

  /** The answer has begun. */
  answered(): void {
    this.isAnswered = true;
  }

  /** In how many milliseconds the next message must have come whole. */
  nextMs(): number {
    return this.idleMs ?? this.leftMs();
  }

  /** A message has come, with something new in it or without. */
  came(isNew: boolean): void {
    if (isNew) {
      this.again.reset();
      this.since = undefined;
    } else if (this.idleMs === undefined && this.leftMs() <= 0) {
      throw new Unreachable("unreachable", "the server answers and gives nothing new", { passing: true });
    }
  }

  /** Waits before the next call, if there is to be one. */
  async waitOrThrow(error: unknown): Promise<void> {
    if (!(error instanceof AnabranchError) || !error.passing) {
      throw error;
    }
    if (this.idleMs !== undefined && this.isAnswered) {
      const now = performance.now();
      const hasLasted = now - this.began >= Math.min(ANSWERED_MS, this.idleMs);
      if (hasLasted) {
        this.again.reset();
      }
      if (hasLasted || this.since === this.began) {
        // It was there until now.
        this.since = now;
      }
    }
    const waitMs = this.again.waitMs(error);
    if (waitMs + leastMs(this.patienceMs) >= this.leftMs()) {
      throw error;
    }
    await sleep(waitMs, this.signal);
  }

  private leftMs(): number {
    const now = performance.now();
    this.since ??= now;
    return this.since + this.patienceMs - now;
  }
}

/** The messages of calls that are made one after the other, each from where the last one ended. */
async function* messages<Q>(
  caller: Caller,
  call: Call<Q, wire.ReadResponse>,
  request: () => Q,
  patience: Patience,
): AsyncGenerator<wire.ReadResponse, void, undefined> {
  for (;;) {
    try {
      for await (const message of caller.stream(call, request(), patience, patience.signal)) {
        if (message.problem !== undefined) {
          throw readFailed(message.problem);
        }
        yield message;
      }
      return;
    } catch (error) {
      await patience.waitOrThrow(error);
    }
  }
}

/** A read of all streams. Gives each event, and the place behind it. */
export async function* readAll(
  caller: Caller,
  filter: Filter,
  from: Cut,
  mode: wire.ReadMode,
  patience: Patience,
): AsyncGenerator<[Event, Cut], void, undefined> {
  const wanted = filterTo(filter);
  const isBackward = mode === "READ_MODE_BACKWARD";
  const cut = checkedCut(from);
  let until: Cut | undefined;
  const request = (): wire.ReadRequest => ({
    from: { counts: { ...cut } },
    filter: wanted,
    mode,
    packed: false,
    reachOnly: false,
  });
  for await (const message of messages(caller, READ, request, patience)) {
    let isNew = false;
    if (until === undefined && message.until !== undefined) {
      // Where a read to the head ends, as the first call has said. A later one gives what came
      // since, too.
      until = message.until.counts;
      isNew = true;
    }
    for (const one of eventsOf(message)) {
      const event = new Event(one);
      const { partition, offset } = event.position;
      if (until !== undefined && offset >= (until[partition] ?? 0n)) {
        continue;
      }
      const count = cut[partition] ?? 0n;
      if (isBackward ? offset >= count : offset < count) {
        // It was given before. No server of ours does so.
        continue;
      }
      cut[partition] = isBackward ? offset : offset + 1n;
      patience.came(true);
      isNew = true;
      yield [event, { ...cut }];
    }
    for (const { reach } of partsOf(message)) {
      if (reach !== undefined && !isBackward && reach.to > (cut[reach.partition] ?? 0n)) {
        cut[reach.partition] = reach.to;
        isNew = true;
      }
    }
    patience.came(isNew);
  }
}

/** The message itself, or one for each partition of events that came together. */
function partsOf(message: wire.ReadResponse): wire.ReadResponse[] {
  return message.together.length > 0 ? message.together : [message];
}

function eventsOf(message: wire.ReadResponse): wire.Event[] {
  return partsOf(message).flatMap((part) => part.events);
}

/** A read of one stream. */
export async function* readOne(
  caller: Caller,
  stream: string,
  start: bigint,
  end: bigint | undefined,
  backward: boolean,
  patience: Patience,
): AsyncGenerator<Event, void, undefined> {
  const request = (): wire.ReadStreamRequest => ({
    stream,
    from: start,
    to: end,
    backward,
    packed: false,
  });
  for await (const message of messages(caller, READ_STREAM, request, patience)) {
    let isNew = false;
    for (const one of eventsOf(message)) {
      const event = new Event(one);
      const { version } = event;
      if (version < start || (end !== undefined && version >= end)) {
        // It was given before, or was not asked for. No server of ours does so.
        continue;
      }
      if (backward) {
        end = version;
      } else {
        start = version + 1n;
      }
      patience.came(true);
      isNew = true;
      yield event;
    }
    patience.came(isNew);
  }
}

/** Why events cannot be read. */
function readFailed(problem: wire.ReadProblem): AnabranchError {
  const words = problem.message;
  if (problem.closed) {
    // The server ends; it, or another, is asked again.
    return new AnabranchError("unavailable", words, { passing: true });
  }
  const codes = [
    ["damaged", problem.damaged],
    ["out-of-range", problem.cutBeyondHead],
    ["unimplemented", problem.unsupported],
    ["invalid-argument", problem.invalid],
  ] as const;
  const code = codes.find(([, found]) => found !== undefined)?.[0];
  return new AnabranchError(code ?? "unavailable", words);
}
