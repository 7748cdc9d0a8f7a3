// What clients ask by HTTP.
//
// Made by clients/generate.py from docs/openapi.json: change that, and run it again.

import {
  type Json,
  type RecordShape,
  type Shape,
  boolean,
  choice,
  many,
  optional,
  raw,
  record,
  ref,
  table,
  text,
  uint32,
  uint64,
} from "../shape.js";

/** Where an event stands that was sent. */
export interface AppendedEvent {
  /**
   * Its id in the log, a UUID: of a CloudEvent of another producer it follows from source and
   * id.
   */
  id: string;
  /** Where it stands in the log, as partition:offset. */
  position: string;
  /** Whether it was there before. */
  repeated: boolean;
  /** Its stream, as category/key. */
  stream: string;
  /** Its number in the stream, from 0. */
  version: bigint;
}
export const AppendedEvent: RecordShape<AppendedEvent> = record(() => [
  ["id", "id", text()],
  ["position", "position", text()],
  ["repeated", "repeated", boolean(), true],
  ["stream", "stream", text()],
  ["version", "version", uint64()],
]);

/** A command as one body. With `?type=…` in the address the body is the data alone. */
export interface CommandBody {
  /** What the command holds. */
  data?: Json | undefined;
  /** What is asked for, for example `PlaceOrder`. */
  type: string;
}
export const CommandBody: RecordShape<CommandBody> = record(() => [
  ["data", "data", optional(raw()), true],
  ["type", "type", text()],
]);

/** What has become of a command. */
export interface CommandOutcome {
  /** The command's id. */
  command: string;
  /**
   * How the saga that has taken it has ended, if the client wanted to wait for that and it
   * has.
   */
  ended?: SagaEnded | undefined;
  /** What it recorded. */
  events: RecordedEvent[];
  /** Whether it had been done before, and this is the first outcome. */
  repeated: boolean;
  /** The entity or saga, as category/key. */
  stream: string;
  /**
   * Whether a saga has taken it: it is durable, and what follows from it is done later. An
   * entity has done it when it answers.
   */
  taken: boolean;
  /** The version of the entity's last event; `null` if it has none. */
  version?: bigint | undefined;
}
export const CommandOutcome: RecordShape<CommandOutcome> = record(() => [
  ["command", "command", text()],
  ["ended", "ended", optional(ref(() => SagaEnded)), true],
  ["events", "events", many(ref(() => RecordedEvent)), true],
  ["repeated", "repeated", boolean(), true],
  ["stream", "stream", text()],
  ["taken", "taken", boolean(), true],
  ["version", "version", optional(uint64()), true],
]);

/** CloudEvents that are in the log now. */
export interface EventsAppended {
  /** Each of them, in the order in which they came. */
  events: AppendedEvent[];
}
export const EventsAppended: RecordShape<EventsAppended> = record(() => [
  ["events", "events", many(ref(() => AppendedEvent))],
]);

/** Whether what was asked for has happened though there is no good answer. */
export type Happened =
  | "no"
  | "maybe"
  | "yes";
export const Happened: Shape<Happened> = choice(["no", "maybe", "yes"]);

/** What has become of several commands that were sent together: all of them took effect. */
export interface ListOutcome {
  /** The id of the list. */
  list: string;
  /** What has become of each, in their order. */
  outcomes: CommandOutcome[];
}
export const ListOutcome: RecordShape<ListOutcome> = record(() => [
  ["list", "list", text()],
  ["outcomes", "outcomes", many(ref(() => CommandOutcome))],
]);

/** One of several commands that are sent together. */
export interface ListedCommand {
  /** What the command holds. */
  data?: Json | undefined;
  /** The state that the entity is expected to be in; any, if it is not given. */
  expect?: Json | undefined;
  /** The entity, as category/key. */
  to: string;
  /** What is asked for, for example `Withdraw`. */
  type: string;
}
export const ListedCommand: RecordShape<ListedCommand> = record(() => [
  ["data", "data", optional(raw()), true],
  ["expect", "expect", optional(raw()), true],
  ["to", "to", text()],
  ["type", "type", text()],
]);

/** Why a request was not done, as RFC 9457 has it. */
export interface Problem {
  /** With `version-mismatch`: the version of the entity's last event; absent if it has none. */
  actual?: bigint | undefined;
  /** Stable, for programs, for example `version-mismatch`. */
  code: string;
  /** The command's id, by which sending it again tells what has become of it. */
  command?: string | undefined;
  /** What happened and what to do, for people. */
  detail: string;
  /** Whether what was asked for has happened though there is no good answer. */
  happened: Happened;
  /** With `other-log`: the id of the log that this server is about. */
  log?: string | undefined;
  /** What `detail` is made of. */
  parts?: ProblemParts | undefined;
  /** The entity's or saga's own "no". */
  rejection?: Rejection | undefined;
  /** When to try again, in milliseconds, if that makes sense. */
  retryAfterMs?: bigint | undefined;
  /** The status of the answer. */
  status: number;
  /** The code in words. */
  title: string;
  /** `urn:anabranch:problem:` and the code. */
  type: string;
}
export const Problem: RecordShape<Problem> = record(() => [
  ["actual", "actual", optional(uint64()), true],
  ["code", "code", text()],
  ["command", "command", optional(text()), true],
  ["detail", "detail", text(), true],
  ["happened", "happened", ref(() => Happened)],
  ["log", "log", optional(text()), true],
  ["parts", "parts", optional(ref(() => ProblemParts)), true],
  ["rejection", "rejection", optional(ref(() => Rejection)), true],
  ["retryAfterMs", "retry_after_ms", optional(uint64()), true],
  ["status", "status", uint32()],
  ["title", "title", text(), true],
  ["type", "type", text(), true],
]);

/**
 * What the words of a problem are made of, so that a service that asks another can say the
 * problem as its own. Which of them are there depends on the code.
 */
export interface ProblemParts {
  /** How many: commands that wait, attempts, percent. */
  count?: bigint | undefined;
  /** The state that was expected. */
  expected?: Json | undefined;
  /** How far a view or the log is: how many events of each partition. */
  have?: Record<string, bigint> | undefined;
  /** What there is instead. */
  known?: string | undefined;
  /** The category, view, query or command that it is about. */
  name?: string | undefined;
  /** How far it has to be. */
  need?: Record<string, bigint> | undefined;
  /** The cause alone. */
  reason?: string | undefined;
  /** The stream that it is about, as category/key. */
  stream?: string | undefined;
}
export const ProblemParts: RecordShape<ProblemParts> = record(() => [
  ["count", "count", optional(uint64()), true],
  ["expected", "expected", optional(raw()), true],
  ["have", "have", optional(table(text(), uint64())), true],
  ["known", "known", optional(text()), true],
  ["name", "name", optional(text()), true],
  ["need", "need", optional(table(text(), uint64())), true],
  ["reason", "reason", optional(text()), true],
  ["stream", "stream", optional(text()), true],
]);

/** A view's answer, from one unchanging state of it. */
export interface QueryAnswer {
  /** How far into the log the answer reaches: how many events of each partition. */
  cut: Record<string, bigint>;
  /** Whether the answer lacks something that the client has seen. */
  stale: boolean;
  /** What was asked for. */
  value: Json;
}
export const QueryAnswer: RecordShape<QueryAnswer> = record(() => [
  ["cut", "cut", table(text(), uint64())],
  ["stale", "stale", boolean()],
  ["value", "value", raw()],
]);

/** An event that a command has recorded. */
export interface RecordedEvent {
  /** Its data. */
  data: Json;
  /** Where it stands in the log, as partition:offset. */
  position: string;
  /** The version of the data's form. */
  schemaVersion: number;
  /** What happened, for example `OrderPlaced`. */
  type: string;
  /** Its number in the stream, from 0. */
  version: bigint;
}
export const RecordedEvent: RecordShape<RecordedEvent> = record(() => [
  ["data", "data", raw()],
  ["position", "position", text()],
  ["schemaVersion", "schema_version", uint32()],
  ["type", "type", text()],
  ["version", "version", uint64()],
]);

/** A business "no": the command was understood and is not allowed now. */
export interface Rejection {
  /** For programs: the service's own code, for example `out-of-stock`. */
  code: string;
  /** Details for programs. */
  data?: Json | undefined;
  /** For people: what is in the way. */
  message: string;
  /** Whether the same command may be allowed a little later. */
  tryAgain: boolean;
}
export const Rejection: RecordShape<Rejection> = record(() => [
  ["code", "code", text()],
  ["data", "data", optional(raw()), true],
  ["message", "message", text()],
  ["tryAgain", "try_again", boolean(), true],
]);

/** How a saga has ended. */
export interface SagaEnded {
  /** In which of two ways. */
  outcome: SagaOutcome;
  /** Why it went back, if it did. */
  reason?: string | undefined;
}
export const SagaEnded: RecordShape<SagaEnded> = record(() => [
  ["outcome", "outcome", ref(() => SagaOutcome)],
  ["reason", "reason", optional(text()), true],
]);

/** In which way a saga has ended. */
export type SagaOutcome =
  | "completed"
  | "compensated";
export const SagaOutcome: Shape<SagaOutcome> = choice(["completed", "compensated"]);

/** What serves. */
export interface Version {
  /** The name of the log that is served. */
  log: string;
  /** The version of the log's protocol over the network. */
  protocol: number;
  /** The version of the program. */
  version: string;
}
export const Version: RecordShape<Version> = record(() => [
  ["log", "log", text()],
  ["protocol", "protocol", uint32()],
  ["version", "version", text()],
]);
