// Reads that go on where they were when the connection breaks: no gap, and no event twice.

import { AnabranchError } from "./errors.js";
import { type Cut, Event, type Filter, filterTo } from "./log.js";
import { ATTEMPT_MOST_MS, Again, sleep } from "./retry.js";
import { type Call, type Caller, LOG } from "./rpc.js";
import * as wire from "./wire/log.js";

/** How long a server may say nothing before a reader asks again, if nothing else is said. */
const IDLE_MS = 60_000;

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

/** How a reader waits. */
export interface Patience {
  /** How long a server may be away. */
  readonly patienceMs: number;
  /** How long it may say nothing. */
  readonly idleMs?: number | undefined;
  /** Ends it. */
  readonly signal?: AbortSignal | undefined;
}

/** The messages of calls that are made one after the other, each from where the last one ended. */
async function* messages<Q>(
  caller: Caller,
  call: Call<Q, wire.ReadResponse>,
  request: () => Q,
  { patienceMs, idleMs = IDLE_MS, signal }: Patience,
): AsyncGenerator<wire.ReadResponse, void, undefined> {
  const again = new Again();
  let failingSince: number | undefined;
  for (;;) {
    const began = performance.now();
    try {
      for await (const message of caller.stream(call, request(), ATTEMPT_MOST_MS, idleMs, signal)) {
        again.reset();
        failingSince = undefined;
        if (message.problem !== undefined) {
          throw readFailed(message.problem);
        }
        yield message;
      }
      return;
    } catch (error) {
      if (!(error instanceof AnabranchError) || !error.passing) {
        throw error;
      }
      const now = performance.now();
      if (now - began > Math.min(ANSWERED_MS, idleMs)) {
        again.reset();
        failingSince = undefined;
      }
      failingSince ??= now;
      const waitMs = again.waitMs(error);
      if (now + waitMs - failingSince > patienceMs) {
        throw error;
      }
      await sleep(waitMs, signal);
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
  const cut: Cut = { ...from };
  let until: Cut | undefined;
  const request = (): wire.ReadRequest => ({ from: { counts: { ...cut } }, filter: wanted, mode });
  const reach = (partition: number, count: bigint): void => {
    const now = cut[partition] ?? 0n;
    cut[partition] = count > now ? count : now;
  };
  for await (const message of messages(caller, READ, request, patience)) {
    // Where a read to the head ends, as the first call has said. A later one gives what came
    // since, too.
    until ??= message.until?.counts;
    for (const one of message.events) {
      const event = new Event(one);
      const { partition, offset } = event.position;
      if (until !== undefined && offset >= (until[partition] ?? 0n)) {
        continue;
      }
      if (!isBackward && offset < (cut[partition] ?? 0n)) {
        // It was given before. No server of ours does so.
        continue;
      }
      if (isBackward) {
        cut[partition] = offset;
      } else {
        reach(partition, offset + 1n);
      }
      yield [event, { ...cut }];
    }
    if (message.reach !== undefined && !isBackward) {
      reach(message.reach.partition, message.reach.to);
    }
  }
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
  const request = (): wire.ReadStreamRequest => ({ stream, from: start, to: end, backward });
  for await (const message of messages(caller, READ_STREAM, request, patience)) {
    for (const one of message.events) {
      const event = new Event(one);
      if (backward) {
        end = event.version;
      } else {
        start = event.version + 1n;
      }
      yield event;
    }
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
