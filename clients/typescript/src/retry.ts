// Asking again, for as long as that makes sense.

import { AnabranchError } from "./errors.js";

const FIRST_MS = 50;
const MOST_MS = 2_000;

/**
 * An attempt that has less time, in milliseconds, is not made: it would only hide why the last one
 * failed.
 */
const LEAST_MS = 250;

/** The longest that one attempt waits for its answer, in milliseconds. */
export const ATTEMPT_MOST_MS = 10_000;

/** The longest that a timer waits. One that is given more rings at once. */
export const TIMER_MOST_MS = 2 ** 31 - 1;

/** A time that a caller has named. What is no number would never be over. */
export function milliseconds(name: string, value: unknown): number {
  if (typeof value !== "number" || Number.isNaN(value)) {
    throw new TypeError(`${name} is a number of milliseconds, and not ${String(value)}`);
  }
  return value;
}

/** How long an attempt takes at least that is worth making, of so long a time. */
export function leastMs(timeoutMs: number): number {
  return Math.min(LEAST_MS, timeoutMs / 4);
}

/** How long to wait before the next attempt: twice as long each time, not all at once. */
export class Again {
  private nextMs = FIRST_MS;

  /** Somebody has answered. */
  reset(): void {
    this.nextMs = FIRST_MS;
  }

  /** Milliseconds to wait, if nobody says otherwise. */
  pauseMs(): number {
    const waitMs = this.nextMs * (0.75 + Math.random() / 2);
    this.nextMs = Math.min(this.nextMs * 2, MOST_MS);
    return waitMs;
  }

  /** Milliseconds to wait after this error. */
  waitMs(error: AnabranchError): number {
    const waitMs = this.pauseMs();
    return error.retryAfterMs === undefined ? waitMs : Math.max(error.retryAfterMs, FIRST_MS);
  }
}

/** Waits; rejects when it is given up. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const done = (): void => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    };
    const timer = setTimeout(done, Math.min(ms, TIMER_MOST_MS));
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * Calls `once` with the milliseconds it may take, again while the error is a passing one.
 *
 * What it asks for has an id of its own, so a repeat is safe, and a good answer or a clear refusal
 * also says what has become of the attempts before. If the time ends first, the last error is
 * thrown; it says `maybe` if any attempt may have been done.
 */
export async function untilDone<T>(
  timeoutMs: number,
  signal: AbortSignal | undefined,
  once: (withinMs: number) => Promise<T>,
): Promise<T> {
  const deadline = performance.now() + milliseconds("timeoutMs", timeoutMs);
  const again = new Again();
  let mayHave = false;
  for (;;) {
    const leftMs = Math.max(deadline - performance.now(), 1);
    try {
      return await once(Math.min(leftMs, ATTEMPT_MOST_MS));
    } catch (error) {
      if (!(error instanceof AnabranchError)) {
        throw error;
      }
      mayHave ||= error.happened === "maybe";
      if (!error.passing) {
        throw error;
      }
      const waitMs = again.waitMs(error);
      if (performance.now() + waitMs + leastMs(timeoutMs) >= deadline) {
        error.happened = mayHave ? "maybe" : error.happened;
        throw error;
      }
      await sleep(waitMs, signal);
    }
  }
}
