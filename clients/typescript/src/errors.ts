// What can go wrong. A program decides on fields, never on words.

import type { Happened, Problem, Rejection } from "./wire/http.js";
import type { AppendProblem } from "./wire/log.js";

/** What an error may say beside its code and its words. */
export interface Said {
  happened?: Happened;
  passing?: boolean;
  retryAfterMs?: number | undefined;
  status?: number | undefined;
  problem?: Problem | undefined;
  token?: string | undefined;
}

/** Something was not done, or nobody knows whether it was. */
export class AnabranchError extends Error {
  /** Stable, for programs, for example `conflict`. */
  readonly code: string;
  /** What happened and what to do, for people. */
  readonly detail: string;
  /**
   * Whether what was asked for has happened: `no`, `yes`, or `maybe`. After `maybe`, asking again
   * with the same ids tells.
   */
  happened: Happened;
  /**
   * Whether asking again with the same ids makes sense. This client has done so until its time
   * was over.
   */
  readonly passing: boolean;
  /** When to ask again, in milliseconds, if the server has said so. */
  readonly retryAfterMs: number | undefined;
  /** The status of the answer, if there was one. */
  readonly status: number | undefined;
  /** All that the server has said, where it has said it as a problem. */
  readonly problem: Problem | undefined;
  /** What the client has been told counts as seen; see `Session`. */
  readonly token: string | undefined;

  constructor(code: string, detail: string, said: Said = {}, options?: ErrorOptions) {
    super(`${code}: ${detail}`, options);
    this.name = new.target.name;
    this.code = code;
    this.detail = detail;
    this.happened = said.happened ?? "no";
    this.passing = said.passing ?? false;
    this.retryAfterMs = said.retryAfterMs;
    this.status = said.status;
    this.problem = said.problem;
    this.token = said.token;
  }
}

/** Nobody has answered: the server is away, or the connection broke. */
export class Unreachable extends AnabranchError {}

/** What answers does not speak the protocol. */
export class BadAnswer extends AnabranchError {}

/** The server is about another log than the one that was opened. */
export class OtherLog extends AnabranchError {}

/** The server speaks a version of the protocol that this client does not. */
export class OtherProtocol extends AnabranchError {}

/** Not appended: a stream is not in the expected state. */
export class Conflict extends AnabranchError {
  stream = "";
  /** The version of its last event; undefined: it has none, or `untold`. */
  actual: bigint | undefined;
  /**
   * Whether how the stream is is not told, because it may not be read by who appends. Then it may be
   * another condition of the append that does not hold.
   */
  untold = false;
}

/** Not appended: an event matches that was not to be there. */
export class Matched extends AnabranchError {}

/** Not appended: a category belongs to a service, and this is not its lease. */
export class NotOwner extends AnabranchError {
  category = "";
  /** The service; empty: the log itself. */
  owner = "";
}

/** The entity has understood the command, and says no. */
export class Rejected extends AnabranchError {
  readonly rejection: Rejection;

  constructor(code: string, detail: string, rejection: Rejection, said: Said) {
    super(code, detail, said);
    this.rejection = rejection;
  }
}

/** Not done: the entity is not at the expected version. */
export class VersionMismatch extends AnabranchError {
  /** The version it is at; undefined: it has no events. */
  actual: bigint | undefined;
}

/** Not registered: another service holds what is claimed. */
export class Held extends AnabranchError {}

/** The lease has ended and somebody has followed, or it was released. */
export class LeaseLost extends AnabranchError {}

/** The error that a problem of the HTTP doors is. */
export function ofProblem(problem: Problem, token?: string): AnabranchError {
  const { code, detail, happened } = problem;
  const after = problem.retryAfterMs;
  const said: Said = {
    happened,
    // After `maybe`, the same request tells what has become of it.
    passing: (after !== undefined || happened === "maybe") && happened !== "yes",
    retryAfterMs: after === undefined ? undefined : Number(after),
    status: problem.status,
    problem,
    token,
  };
  if (code === "rejected" && problem.rejection !== undefined) {
    return new Rejected(code, detail, problem.rejection, said);
  }
  if (code === "version-mismatch") {
    return Object.assign(new VersionMismatch(code, detail, said), { actual: problem.actual });
  }
  const Kind = code === "other-log" ? OtherLog : AnabranchError;
  return new Kind(code, detail, said);
}

/** The error that the detail of a refused append is. */
export function ofAppend(problem: AppendProblem, status: number | undefined): AnabranchError {
  const { code, message } = problem;
  if (problem.conflict !== undefined) {
    const { stream, actual, untold } = problem.conflict;
    return Object.assign(new Conflict(code, message, { status }), { stream, actual, untold });
  }
  if (problem.matched !== undefined) {
    return new Matched(code, message, { status });
  }
  if (problem.rejected?.notOwner !== undefined) {
    const { category, owner } = problem.rejected.notOwner;
    return Object.assign(new NotOwner(code, message, { status }), { category, owner });
  }
  if (problem.unavailable !== undefined) {
    const after = problem.unavailable.retryAfterMs;
    const retryAfterMs = after === undefined ? undefined : Number(after);
    return new AnabranchError(code, message, { passing: true, retryAfterMs, status });
  }
  if (problem.unknown !== undefined) {
    return new AnabranchError(code, message, { happened: "maybe", passing: true, status });
  }
  return new AnabranchError(code || "rejected", message, { status });
}
