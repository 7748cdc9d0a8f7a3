// A client of Anabranch: a log of events, and the services on it.
//
// `open` gives a `Client`. What goes wrong is an `AnabranchError`, which says whether it happened.

export {
  type AppendOptions,
  Client,
  type ConsumeOptions,
  type FollowOptions,
  type OpenOptions,
  PROTOCOL,
  type ReadOptions,
  type ReadStreamOptions,
  type Registration,
  type Waiting,
  open,
} from "./client.js";
export {
  AnabranchError,
  BadAnswer,
  Conflict,
  Held,
  LeaseLost,
  Matched,
  NotOwner,
  OtherLog,
  OtherProtocol,
  Rejected,
  Unreachable,
  VersionMismatch,
} from "./errors.js";
export { type Json, type ToJson, compose as composeJson, parse as parseJson } from "./json.js";
export { type Lease, keptSecret } from "./lease.js";
export {
  type Appended,
  type Cut,
  Event,
  type EventOptions,
  type Expect,
  type Filter,
  type Kind,
  type Match,
  NewEvent,
  type NoMatch,
  type Placed,
  Position,
} from "./log.js";
export { FilePlace, type Place } from "./place.js";
export { type Outcome, type QueryOptions, type SendOptions, Session, type ViewAnswer } from "./session.js";
