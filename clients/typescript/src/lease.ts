// A category of one's own: registering, the lease, and what is appended by it.

import { randomBytes } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";

import type { AppendOptions, Client } from "./client.js";
import { AnabranchError, Conflict, Held, LeaseLost } from "./errors.js";
import { type Names, known } from "./given.js";
import { compose, parse } from "./json.js";
import { type Appended, type Event, type Kind, NewEvent } from "./log.js";
import { ATTEMPT_MOST_MS, untilDone } from "./retry.js";
import { type Call, type Caller, REGISTRY } from "./rpc.js";
import * as wire from "./wire/registry.js";

const RENEW: Call<wire.RenewRequest, wire.RenewResponse> = {
  path: `${REGISTRY}Renew`,
  request: wire.RenewRequest,
  answer: wire.RenewResponse,
};
const RELEASE: Call<wire.ReleaseRequest, wire.ReleaseResponse> = {
  path: `${REGISTRY}Release`,
  request: wire.ReleaseRequest,
  answer: wire.ReleaseResponse,
  changes: true,
};

const KIND: Names<Kind> = { name: true, version: true, shape: true };

/** By these codes nobody can renew any more. */
const LOST = ["failed-precondition", "permission-denied", "not-found", "other-log"];

/** A new secret. */
export function freshSecret(): string {
  return randomBytes(32).toString("hex");
}

/**
 * The secret in a file that the owner alone can read; made if it is not there. With it a service
 * that was killed takes over from itself at once.
 */
export async function keptSecret(path: string): Promise<string> {
  try {
    return (await readFile(path, "ascii")).trim();
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) {
      throw error;
    }
  }
  const secret = freshSecret();
  const file = await open(`${path}.new`, "w", 0o600);
  try {
    await file.writeFile(secret);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
  return secret;
}

/** How an append by a lease is made: by the client that has registered. */
export type AppendBy = (
  events: NewEvent | readonly NewEvent[],
  options: AppendOptions,
  lease: string,
) => Promise<Appended>;

/** A lease that is held. A timer renews it until it is released or lost. */
export class Lease {
  /** What the service registers by the next time. Keep it to yourself. */
  readonly secret: string;
  /** Larger with each lease of the service. */
  readonly number: bigint;
  readonly #token: string;
  readonly #appendBy: AppendBy;
  #lost: LeaseLost | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly client: Client,
    private readonly caller: Caller,
    readonly name: string,
    message: wire.Lease,
    appendBy: AppendBy,
    private readonly onLost: ((error: LeaseLost) => void) | undefined,
  ) {
    this.secret = message.secret;
    this.number = message.id;
    this.#token = message.token;
    caller.leases.push(message.token);
    this.#appendBy = appendBy;
    this.plan(Number(message.expiresInMs), Number(message.expiresInMs) / 3);
  }

  /** Why it is lost for good; undefined: it is not. End the program then, or register again. */
  get lost(): LeaseLost | undefined {
    return this.#lost;
  }

  /** As `Client.append`, by this lease. */
  async append(events: NewEvent | readonly NewEvent[], options: AppendOptions = {}): Promise<Appended> {
    if (this.#lost !== undefined) {
      throw this.#lost;
    }
    return this.#appendBy(events, options, this.#token);
  }

  /**
   * Says in the log what the events of a category look like, if that was not said last. So
   * `anabranch schema check` knows, and can tell what a change would break.
   */
  async declare(category: string, kinds: readonly Kind[]): Promise<void> {
    const stream = `$schema/${category}`;
    const said = kinds.map((kind) => {
      const { name, version = 1, shape = "unknown" } = known("a kind", kind, KIND);
      return { name, version, shape };
    });
    const data = { service: this.name, kinds: said };
    const options = { source: this.name, correlationId: stream };
    const until = performance.now() + this.client.timeoutMs;
    for (;;) {
      const last = await this.last(stream);
      if (last !== undefined && isDeepStrictEqual(last.data, parse(compose(data)))) {
        return;
      }
      const event = new NewEvent(stream, "$TypesRegistered", data, options);
      try {
        await this.append(event, { expect: last?.version ?? "empty" });
        return;
      } catch (error) {
        // Somebody was first: what they have said may be the same.
        if (!(error instanceof Conflict) || performance.now() >= until) {
          throw error;
        }
      }
    }
  }

  /**
   * Ends it, so that whoever follows need not wait. With `giveUp` what it owned has no owner from
   * then on. From then on the client reads as this service no more; one that is lost has to be
   * released for that too.
   */
  async release(giveUp = false): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#lost !== undefined) {
      this.showNoMore();
      return;
    }
    this.#lost = new LeaseLost("lease-released", `the lease of ${this.name} was released`);
    const request = { lease: this.#token, giveUp };
    await untilDone(this.client.timeoutMs, undefined, (withinMs) =>
      this.caller.call(RELEASE, request, withinMs),
    );
    this.showNoMore();
  }

  private showNoMore(): void {
    const { leases } = this.caller;
    const at = leases.indexOf(this.#token);
    if (at >= 0) {
      leases.splice(at, 1);
    }
  }

  private async last(stream: string): Promise<Event | undefined> {
    for await (const event of this.client.readStream(stream, { backward: true })) {
      return event;
    }
    return undefined;
  }

  private plan(lastsMs: number, waitMs: number): void {
    // Whatever the server says of how long it lasts.
    const betweenMs = Math.min(Math.max(waitMs, 200), 600_000);
    this.#timer = setTimeout(() => void this.renew(lastsMs), betweenMs);
    // It does not keep a program alive that is done.
    this.#timer.unref();
  }

  private async renew(lastsMs: number): Promise<void> {
    try {
      const withinMs = Math.min(Math.max(lastsMs / 3, 200), ATTEMPT_MOST_MS);
      const renewed = await this.caller.call(RENEW, { lease: this.#token }, withinMs);
      lastsMs = Number(renewed.expiresInMs);
      if (this.#lost === undefined) {
        this.plan(lastsMs, lastsMs / 3);
      }
    } catch (error) {
      if (this.#lost !== undefined) {
        return;
      }
      if (error instanceof AnabranchError && LOST.includes(error.code)) {
        const what = `the lease of ${this.name} is lost: ${error.detail}`;
        this.#lost = new LeaseLost("lease-lost", what);
        this.onLost?.(this.#lost);
        return;
      }
      // Not now. It lasts on, and may even live again after its end.
      this.plan(lastsMs, Math.min(lastsMs / 10, 1_000));
    }
  }
}

/** The same error, by its own name if another service holds what was claimed. */
export function held(error: unknown): unknown {
  if (error instanceof AnabranchError && error.code === "already-exists") {
    return new Held("held", error.detail, { status: error.status });
  }
  return error;
}
