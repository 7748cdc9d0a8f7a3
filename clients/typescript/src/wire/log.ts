// The JSON forms of the calls of a log.
//
// Made by clients/generate.py from crates/rpc/proto/anabranch/log/v1/log.proto: change that, and run it again.

import {
  type RecordShape,
  type Shape,
  boolean,
  choice,
  many,
  octets,
  optional,
  quoted64,
  record,
  ref,
  table,
  text,
  uint32,
} from "../shape.js";

/** Two streams that one append names and that stand in different partitions. */
export interface Apart {
  first: string;
  firstIn: number;
  second: string;
  secondIn: number;
}
export const Apart: RecordShape<Apart> = record(() => [
  ["first", "first", text(), true],
  ["firstIn", "firstIn", uint32(), true],
  ["second", "second", text(), true],
  ["secondIn", "secondIn", uint32(), true],
]);

/** Why an append was not acknowledged. */
export interface AppendProblem {
  /** In words, and what to do. */
  message: string;
  conflict?: Conflict | undefined;
  matched?: Position | undefined;
  rejected?: Rejected | undefined;
  unavailable?: Unavailable | undefined;
  /** It may have been written: repeat it with the same ids to find out. In words, why. */
  unknown?: string | undefined;
  /** A stable word for it, such as `conflict` or `not-owner`. */
  code: string;
}
export const AppendProblem: RecordShape<AppendProblem> = record(() => [
  ["message", "message", text(), true],
  ["conflict", "conflict", optional(ref(() => Conflict)), true],
  ["matched", "matched", optional(ref(() => Position)), true],
  ["rejected", "rejected", optional(ref(() => Rejected)), true],
  ["unavailable", "unavailable", optional(ref(() => Unavailable)), true],
  ["unknown", "unknown", optional(text()), true],
  ["code", "code", text(), true],
]);

export interface AppendRequest {
  events: NewEvent[];
  conditions: Condition[];
  /**
   * The token of the lease of the service that appends, as `anabranch.registry.v1` has given
   * it. A category that has an owner takes no append without it. In `AppendMany`, see
   * `leases`.
   */
  lease: string;
}
export const AppendRequest: RecordShape<AppendRequest> = record(() => [
  ["events", "events", many(ref(() => NewEvent)), true],
  ["conditions", "conditions", many(ref(() => Condition)), true],
  ["lease", "lease", text(), true],
]);

export interface AppendResponse {
  /** Where the events stand, one for each, in order. */
  places: Placed[];
  /** Whether an earlier append with the same ids had written them. */
  repeated: boolean;
  /**
   * A cut that includes the events and everything that they depend on, in every partition.
   * Absent: what the places include.
   */
  closure?: Cut | undefined;
}
export const AppendResponse: RecordShape<AppendResponse> = record(() => [
  ["places", "places", many(ref(() => Placed)), true],
  ["repeated", "repeated", boolean(), true],
  ["closure", "closure", optional(ref(() => Cut)), true],
]);

/** A cut that names events that do not exist yet. */
export interface BeyondHead {
  cut?: Cut | undefined;
  head?: Cut | undefined;
}
export const BeyondHead: RecordShape<BeyondHead> = record(() => [
  ["cut", "cut", optional(ref(() => Cut)), true],
  ["head", "head", optional(ref(() => Cut)), true],
]);

/** What a log can do. */
export interface Capabilities {
  engine: string;
  partitions: number;
  /** How far a batch may reach and still be atomic. */
  batches: Scope;
  totalOrder: boolean;
  backwardReads: boolean;
  survivesRestart: boolean;
  survivesPowerCut: boolean;
  limits?: Limits | undefined;
  /** Which streams a condition may name, beside those that the batch writes. */
  conditions: Scope;
  /** How far an append may look for what matches a query. Unspecified: it cannot. */
  noMatch: Scope;
}
export const Capabilities: RecordShape<Capabilities> = record(() => [
  ["engine", "engine", text(), true],
  ["partitions", "partitions", uint32(), true],
  ["batches", "batches", ref(() => Scope), true],
  ["totalOrder", "totalOrder", boolean(), true],
  ["backwardReads", "backwardReads", boolean(), true],
  ["survivesRestart", "survivesRestart", boolean(), true],
  ["survivesPowerCut", "survivesPowerCut", boolean(), true],
  ["limits", "limits", optional(ref(() => Limits)), true],
  ["conditions", "conditions", ref(() => Scope), true],
  ["noMatch", "noMatch", ref(() => Scope), true],
]);

/** Something that must hold for an append to be written. */
export interface Condition {
  stream?: StreamCondition | undefined;
  noMatch?: NoMatch | undefined;
}
export const Condition: RecordShape<Condition> = record(() => [
  ["stream", "stream", optional(ref(() => StreamCondition)), true],
  ["noMatch", "noMatch", optional(ref(() => NoMatch)), true],
]);

/** Did not happen: a stream is not in the expected state. */
export interface Conflict {
  stream: string;
  expected?: Expect | undefined;
  /** Its last version; absent: it is empty, or `untold`. */
  actual?: bigint | undefined;
  /**
   * Who appends may not read the stream, so it is not told how that is, nor which condition of
   * the append it is that does not hold.
   */
  untold: boolean;
}
export const Conflict: RecordShape<Conflict> = record(() => [
  ["stream", "stream", text(), true],
  ["expected", "expected", optional(ref(() => Expect)), true],
  ["actual", "actual", optional(quoted64()), true],
  ["untold", "untold", boolean(), true],
]);

/** A set of prefixes: for each partition, how many of its first events are included. */
export interface Cut {
  counts: Record<number, bigint>;
}
export const Cut: RecordShape<Cut> = record(() => [
  ["counts", "counts", table(uint32(), quoted64()), true],
]);

/** Stored bytes are damaged. */
export interface Damaged {
  file: string;
  offset: bigint;
  what: string;
  /** The first and the last event that cannot be read. */
  first?: Position | undefined;
  last?: Position | undefined;
}
export const Damaged: RecordShape<Damaged> = record(() => [
  ["file", "file", text(), true],
  ["offset", "offset", quoted64(), true],
  ["what", "what", text(), true],
  ["first", "first", optional(ref(() => Position)), true],
  ["last", "last", optional(ref(() => Position)), true],
]);

export interface DescribeRequest {
  /** The newest version of this protocol that the client speaks; 0: any. */
  protocol: number;
}
export const DescribeRequest: RecordShape<DescribeRequest> = record(() => [
  ["protocol", "protocol", uint32(), true],
]);

export interface DescribeResponse {
  /** The version of the protocol that is spoken; see the request. */
  protocol: number;
  /** The version of the server's program. */
  server: string;
  /** The log's name: the same for as long as the log exists. */
  log: string;
  capabilities?: Capabilities | undefined;
  /** Absent: the log has one partition. */
  layout?: Layout | undefined;
}
export const DescribeResponse: RecordShape<DescribeResponse> = record(() => [
  ["protocol", "protocol", uint32(), true],
  ["server", "server", text(), true],
  ["log", "log", text(), true],
  ["capabilities", "capabilities", optional(ref(() => Capabilities)), true],
  ["layout", "layout", optional(ref(() => Layout)), true],
]);

/** A stored event. */
export interface Event {
  position?: Position | undefined;
  version: bigint;
  /** When the log recorded it: microseconds since 1970, UTC. Information only. */
  recordedAtUs: bigint;
  id: string;
  stream: string;
  type: string;
  schemaVersion: number;
  data?: Uint8Array | undefined;
  /** What is JSON comes as text. */
  text?: string | undefined;
  meta?: Meta | undefined;
}
export const Event: RecordShape<Event> = record(() => [
  ["position", "position", optional(ref(() => Position)), true],
  ["version", "version", quoted64(), true],
  ["recordedAtUs", "recordedAtUs", quoted64(), true],
  ["id", "id", text(), true],
  ["stream", "stream", text(), true],
  ["type", "type", text(), true],
  ["schemaVersion", "schemaVersion", uint32(), true],
  ["data", "data", optional(octets()), true],
  ["text", "text", optional(text()), true],
  ["meta", "meta", optional(ref(() => Meta)), true],
]);

/** The state that a stream is expected to be in. */
export interface Expect {
  /** Any state. Its value says nothing, as those of the next two. */
  any?: boolean | undefined;
  /** No events yet. */
  empty?: boolean | undefined;
  /** At least one event. */
  exists?: boolean | undefined;
  /** The last event has this version. */
  at?: bigint | undefined;
}
export const Expect: RecordShape<Expect> = record(() => [
  ["any", "any", optional(boolean()), true],
  ["empty", "empty", optional(boolean()), true],
  ["exists", "exists", optional(boolean()), true],
  ["at", "at", optional(quoted64()), true],
]);

/**
 * Which events are wanted. What is empty wants everything; of categories, types and streams
 * one must fit, of headers and tags all must.
 */
export interface Filter {
  categories: string[];
  types: string[];
  streams: string[];
  headers: Header[];
  tags: string[];
}
export const Filter: RecordShape<Filter> = record(() => [
  ["categories", "categories", many(text()), true],
  ["types", "types", many(text()), true],
  ["streams", "streams", many(text()), true],
  ["headers", "headers", many(ref(() => Header)), true],
  ["tags", "tags", many(text()), true],
]);

export interface FindRequest {
  id: string;
}
export const FindRequest: RecordShape<FindRequest> = record(() => [
  ["id", "id", text(), true],
]);

export interface FindResponse {
  /** Absent: it was not written, or who asks may not read it. */
  placed?: Placed | undefined;
}
export const FindResponse: RecordShape<FindResponse> = record(() => [
  ["placed", "placed", optional(ref(() => Placed)), true],
]);

/** Categories that share some partitions. */
export interface Group {
  name: string;
  categories: string[];
  /** How many partitions it has. */
  count: number;
}
export const Group: RecordShape<Group> = record(() => [
  ["name", "name", text(), true],
  ["categories", "categories", many(text()), true],
  ["count", "count", uint32(), true],
]);

export interface HeadRequest {
}
export const HeadRequest: RecordShape<HeadRequest> = record(() => [
]);

export interface HeadResponse {
  head?: Cut | undefined;
}
export const HeadResponse: RecordShape<HeadResponse> = record(() => [
  ["head", "head", optional(ref(() => Cut)), true],
]);

export interface Header {
  name: string;
  value: string;
}
export const Header: RecordShape<Header> = record(() => [
  ["name", "name", text(), true],
  ["value", "value", text(), true],
]);

/** The disk or the network refused. */
export interface Io {
  what: string;
  reason: string;
}
export const Io: RecordShape<Io> = record(() => [
  ["what", "what", text(), true],
  ["reason", "reason", text(), true],
]);

/**
 * Which partition each stream stands in. Either there is one, which has every stream, or
 * partition 0 has those of the platform, the partitions of the groups follow in their order,
 * and those of the rest come last. docs/guide/partitions.md says how a key picks one of a
 * group's.
 */
export interface Layout {
  groups: Group[];
  /** How many partitions have the streams that no group names; 0: there is one partition. */
  rest: number;
}
export const Layout: RecordShape<Layout> = record(() => [
  ["groups", "groups", many(ref(() => Group)), true],
  ["rest", "rest", uint32(), true],
]);

/** How large the parts of an append may be. */
export interface Limits {
  dataBytesMax: bigint;
  headersBytesMax: bigint;
  batchBytesMax: bigint;
  batchEventsMax: bigint;
  tagsMax: bigint;
  conditionsMax: bigint;
}
export const Limits: RecordShape<Limits> = record(() => [
  ["dataBytesMax", "dataBytesMax", quoted64(), true],
  ["headersBytesMax", "headersBytesMax", quoted64(), true],
  ["batchBytesMax", "batchBytesMax", quoted64(), true],
  ["batchEventsMax", "batchEventsMax", quoted64(), true],
  ["tagsMax", "tagsMax", quoted64(), true],
  ["conditionsMax", "conditionsMax", quoted64(), true],
]);

/** What an event may carry beside its data. */
export interface Meta {
  /** Media type of the data; absent: application/json. */
  contentType?: string | undefined;
  /** The service that wrote it. */
  source?: string | undefined;
  /** Id of the command or event that caused it. */
  causationId?: string | undefined;
  /** Id of the whole story it belongs to. */
  correlationId?: string | undefined;
  /** W3C trace context. */
  traceparent?: string | undefined;
  tags: string[];
  headers: Record<string, string>;
  causes?: Cut | undefined;
}
export const Meta: RecordShape<Meta> = record(() => [
  ["contentType", "contentType", optional(text()), true],
  ["source", "source", optional(text()), true],
  ["causationId", "causationId", optional(text()), true],
  ["correlationId", "correlationId", optional(text()), true],
  ["traceparent", "traceparent", optional(text()), true],
  ["tags", "tags", many(text()), true],
  ["headers", "headers", table(text(), text()), true],
  ["causes", "causes", optional(ref(() => Cut)), true],
]);

/** An event to append. */
export interface NewEvent {
  /** A UUID: unique for ever, and what makes an append safe to repeat. */
  id: string;
  /** As `category/key`. */
  stream: string;
  type: string;
  /** From 1; 0 means 1. */
  schemaVersion: number;
  /** Any bytes. */
  data?: Uint8Array | undefined;
  /** The same for text, such as JSON. */
  text?: string | undefined;
  meta?: Meta | undefined;
}
export const NewEvent: RecordShape<NewEvent> = record(() => [
  ["id", "id", text(), true],
  ["stream", "stream", text(), true],
  ["type", "type", text(), true],
  ["schemaVersion", "schemaVersion", uint32(), true],
  ["data", "data", optional(octets()), true],
  ["text", "text", optional(text()), true],
  ["meta", "meta", optional(ref(() => Meta)), true],
]);

/** No event that `after` does not include matches any of `items`. */
export interface NoMatch {
  items: QueryItem[];
  after?: Cut | undefined;
}
export const NoMatch: RecordShape<NoMatch> = record(() => [
  ["items", "items", many(ref(() => QueryItem)), true],
  ["after", "after", optional(ref(() => Cut)), true],
]);

/** A category belongs to a service, and the append does not come with its lease. */
export interface NotOwner {
  category: string;
  /** The service; empty: the log itself. */
  owner: string;
  /** In words, and what to do. */
  why: string;
}
export const NotOwner: RecordShape<NotOwner> = record(() => [
  ["category", "category", text(), true],
  ["owner", "owner", text(), true],
  ["why", "why", text(), true],
]);

/**
 * Events as a log stores them: smaller than as messages, and quicker to write and to read.
 * They come in runs of events with consecutive offsets that one append has written; each of
 * the lists has one entry for each run.
 */
export interface Packed {
  partition: number;
  /**
   * The records of all runs, one run after another, as docs/formats/segment.md has them below
   * "Record".
   */
  records: Uint8Array;
  /** The bytes of each. */
  lengths: number[];
  /** The offset of its first event. */
  firsts: bigint[];
  counts: number[];
  /** When it was recorded: microseconds since 1970, UTC. */
  recordedAtUs: bigint[];
}
export const Packed: RecordShape<Packed> = record(() => [
  ["partition", "partition", uint32(), true],
  ["records", "records", octets(), true],
  ["lengths", "lengths", many(uint32()), true],
  ["firsts", "firsts", many(quoted64()), true],
  ["counts", "counts", many(uint32()), true],
  ["recordedAtUs", "recordedAtUs", many(quoted64()), true],
]);

/** Where an event stands in the log and in its stream. */
export interface Placed {
  position?: Position | undefined;
  version: bigint;
}
export const Placed: RecordShape<Placed> = record(() => [
  ["position", "position", optional(ref(() => Position)), true],
  ["version", "version", quoted64(), true],
]);

/** Where an event stands in the log. */
export interface Position {
  partition: number;
  offset: bigint;
}
export const Position: RecordShape<Position> = record(() => [
  ["partition", "partition", uint32(), true],
  ["offset", "offset", quoted64(), true],
]);

/** The type is one of these (none: any), and all of these tags are present. */
export interface QueryItem {
  types: string[];
  tags: string[];
}
export const QueryItem: RecordShape<QueryItem> = record(() => [
  ["types", "types", many(text()), true],
  ["tags", "tags", many(text()), true],
]);

/** Part of a partition. */
export interface Reach {
  partition: number;
  /** From this offset … */
  from: bigint;
  /** … to before this one. */
  to: bigint;
}
export const Reach: RecordShape<Reach> = record(() => [
  ["partition", "partition", uint32(), true],
  ["from", "from", quoted64(), true],
  ["to", "to", quoted64(), true],
]);

/** How far, and which way, to read. */
export type ReadMode =
  | "READ_MODE_UNSPECIFIED"
  | "READ_MODE_TO_HEAD"
  | "READ_MODE_FOLLOW"
  | "READ_MODE_BACKWARD";
export const ReadMode: Shape<ReadMode> = choice(["READ_MODE_UNSPECIFIED", "READ_MODE_TO_HEAD", "READ_MODE_FOLLOW", "READ_MODE_BACKWARD"]);

/** Why events cannot be read. */
export interface ReadProblem {
  /** In words, and what to do. */
  message: string;
  damaged?: Damaged | undefined;
  io?: Io | undefined;
  cutBeyondHead?: BeyondHead | undefined;
  /** What the log cannot do. */
  unsupported?: string | undefined;
  /** The read asks for what the log does not have; in words. */
  invalid?: string | undefined;
  /** The log was closed. */
  closed?: boolean | undefined;
}
export const ReadProblem: RecordShape<ReadProblem> = record(() => [
  ["message", "message", text(), true],
  ["damaged", "damaged", optional(ref(() => Damaged)), true],
  ["io", "io", optional(ref(() => Io)), true],
  ["cutBeyondHead", "cutBeyondHead", optional(ref(() => BeyondHead)), true],
  ["unsupported", "unsupported", optional(text()), true],
  ["invalid", "invalid", optional(text()), true],
  ["closed", "closed", optional(boolean()), true],
]);

export interface ReadRequest {
  /** What is passed over; absent: nothing. Backward: what is read. */
  from?: Cut | undefined;
  filter?: Filter | undefined;
  mode: ReadMode;
  /** Whether events may come as `Packed`. */
  packed: boolean;
  /**
   * Whether events need not come where the log says their reach: for who wants to know how far
   * it goes.
   */
  reachOnly: boolean;
}
export const ReadRequest: RecordShape<ReadRequest> = record(() => [
  ["from", "from", optional(ref(() => Cut)), true],
  ["filter", "filter", optional(ref(() => Filter)), true],
  ["mode", "mode", ref(() => ReadMode), true],
  ["packed", "packed", boolean(), true],
  ["reachOnly", "reachOnly", boolean(), true],
]);

/** Events, in the order of the read. */
export interface ReadResponse {
  events: Event[];
  /**
   * The part of a partition that the events stand for, if the log says so: whoever has taken
   * them in has seen everything there that passes the filter.
   */
  reach?: Reach | undefined;
  /** The first offset of each append among the events, ascending; only with a reach. */
  appends: bigint[];
  /**
   * In the first message of a read to the head, and of a stream: where that is. What is read
   * ends there.
   */
  until?: Cut | undefined;
  /** In the last message of a read that failed; the events given before stay valid. */
  problem?: ReadProblem | undefined;
  /** Events in another form, for who has asked for it; then `events` is empty. */
  packed?: Packed | undefined;
  /**
   * Events of several partitions that came into the log together: a message for each
   * partition, with its reach, and none of its own here. Who takes them in takes in all, or
   * none.
   */
  together: ReadResponse[];
}
export const ReadResponse: RecordShape<ReadResponse> = record(() => [
  ["events", "events", many(ref(() => Event)), true],
  ["reach", "reach", optional(ref(() => Reach)), true],
  ["appends", "appends", many(quoted64()), true],
  ["until", "until", optional(ref(() => Cut)), true],
  ["problem", "problem", optional(ref(() => ReadProblem)), true],
  ["packed", "packed", optional(ref(() => Packed)), true],
  ["together", "together", many(ref(() => ReadResponse)), true],
]);

export interface ReadStreamRequest {
  stream: string;
  /** The first version. */
  from: bigint;
  /** Behind the last version; absent: all there are. */
  to?: bigint | undefined;
  backward: boolean;
  /** Whether events may come as `Packed`. */
  packed: boolean;
}
export const ReadStreamRequest: RecordShape<ReadStreamRequest> = record(() => [
  ["stream", "stream", text(), true],
  ["from", "from", quoted64(), true],
  ["to", "to", optional(quoted64()), true],
  ["backward", "backward", boolean(), true],
  ["packed", "packed", boolean(), true],
]);

/** Did not happen and never will. */
export interface Rejected {
  idTaken?: TakenId | undefined;
  partlyWritten?: TakenId | undefined;
  cutBeyondHead?: BeyondHead | undefined;
  /** What the log cannot do. */
  unsupported?: string | undefined;
  readOnly?: boolean | undefined;
  /** Too large or malformed; in words. */
  malformed?: string | undefined;
  /** One id twice in one batch. */
  repeatedId?: RepeatedId | undefined;
  /** A category belongs to a service, and the append does not come with its lease. */
  notOwner?: NotOwner | undefined;
  /** Causes that are not in the log. */
  futureCause?: BeyondHead | undefined;
  /** Streams of several partitions. */
  apart?: Apart | undefined;
}
export const Rejected: RecordShape<Rejected> = record(() => [
  ["idTaken", "idTaken", optional(ref(() => TakenId)), true],
  ["partlyWritten", "partlyWritten", optional(ref(() => TakenId)), true],
  ["cutBeyondHead", "cutBeyondHead", optional(ref(() => BeyondHead)), true],
  ["unsupported", "unsupported", optional(text()), true],
  ["readOnly", "readOnly", optional(boolean()), true],
  ["malformed", "malformed", optional(text()), true],
  ["repeatedId", "repeatedId", optional(ref(() => RepeatedId)), true],
  ["notOwner", "notOwner", optional(ref(() => NotOwner)), true],
  ["futureCause", "futureCause", optional(ref(() => BeyondHead)), true],
  ["apart", "apart", optional(ref(() => Apart)), true],
]);

/** Two events of a batch, from 0, that have one id. */
export interface RepeatedId {
  first: bigint;
  second: bigint;
}
export const RepeatedId: RecordShape<RepeatedId> = record(() => [
  ["first", "first", quoted64(), true],
  ["second", "second", quoted64(), true],
]);

/** How far an append may reach. */
export type Scope =
  | "SCOPE_UNSPECIFIED"
  | "SCOPE_STREAM"
  | "SCOPE_PARTITION"
  | "SCOPE_LOG";
export const Scope: Shape<Scope> = choice(["SCOPE_UNSPECIFIED", "SCOPE_STREAM", "SCOPE_PARTITION", "SCOPE_LOG"]);

/** A stream is in this state. */
export interface StreamCondition {
  stream: string;
  expect?: Expect | undefined;
}
export const StreamCondition: RecordShape<StreamCondition> = record(() => [
  ["stream", "stream", text(), true],
  ["expect", "expect", optional(ref(() => Expect)), true],
]);

/** An id that was written before. */
export interface TakenId {
  id: string;
  /** Absent: who appends may not read the event that has it. */
  position?: Position | undefined;
}
export const TakenId: RecordShape<TakenId> = record(() => [
  ["id", "id", text(), true],
  ["position", "position", optional(ref(() => Position)), true],
]);

/** Did not happen; it may later. */
export interface Unavailable {
  reason: string;
  /** When to try again, if known. */
  retryAfterMs?: bigint | undefined;
}
export const Unavailable: RecordShape<Unavailable> = record(() => [
  ["reason", "reason", text(), true],
  ["retryAfterMs", "retryAfterMs", optional(quoted64()), true],
]);
