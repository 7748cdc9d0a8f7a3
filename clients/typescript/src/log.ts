// Events and what is said of them: to append, stored, and wanted.

import { randomUUID } from "node:crypto";

import { type Names, entries, known, texts, textsByName } from "./given.js";
import { type Json, type ToJson, compose, parse } from "./json.js";
import * as wire from "./wire/log.js";

/** A set of prefixes: for each partition, how many of its first events are included. */
export type Cut = Record<number, bigint>;

/** The state that a stream is expected to be in; a number: the version of its last event. */
export type Expect = bigint | number | "any" | "empty" | "exists";

/** Where an event stands in the log. */
export class Position {
  constructor(
    readonly partition: number,
    readonly offset: bigint,
  ) {}

  toString(): string {
    return `${this.partition}:${this.offset}`;
  }
}

/** Where an event stands in the log and in its stream. */
export interface Placed {
  readonly position: Position;
  readonly version: bigint;
}

/** What an append has done. */
export interface Appended {
  /** Where the events stand, one for each, in order. */
  readonly places: Placed[];
  /** Whether an earlier append with the same ids had written them. */
  readonly repeated: boolean;
}

/** What an event to append may have beside its data. */
export interface EventOptions {
  /** A UUID: unique for ever. If nothing is said, it is made, once. */
  id?: string;
  /** From 1. */
  schemaVersion?: number;
  /** The media type of the data; if nothing is said, application/json. */
  contentType?: string;
  /** The service that writes it. */
  source?: string;
  correlationId?: string;
  causationId?: string;
  traceparent?: string;
  tags?: readonly string[];
  headers?: Readonly<Record<string, string>>;
}

const EVENT_OPTIONS: Names<EventOptions> = {
  id: true,
  schemaVersion: true,
  contentType: true,
  source: true,
  correlationId: true,
  causationId: true,
  traceparent: true,
  tags: true,
  headers: true,
};

/** An event to append. Its id is made once, so appending the same event again is safe. */
export class NewEvent {
  readonly id: string;

  /**
   * @param stream As `category/key`.
   * @param type What has happened, for example `OrderPlaced`.
   * @param data A JSON value; bytes if it is something else, which `contentType` then names.
   */
  constructor(
    readonly stream: string,
    readonly type: string,
    readonly data: ToJson | Uint8Array = null,
    readonly options: EventOptions = {},
  ) {
    known("NewEvent", options, EVENT_OPTIONS);
    this.id = options.id ?? randomUUID();
  }

  /** What the log takes. */
  message(): wire.NewEvent {
    const { contentType, source, correlationId, causationId, traceparent } = this.options;
    const { tags, headers } = this.options;
    const meta = { contentType, source, correlationId, causationId, traceparent };
    const isSaid = Object.values(meta).some((part) => part !== undefined);
    const content =
      this.data instanceof Uint8Array ? { data: this.data } : { text: compose(this.data) };
    const hasMeta = isSaid || tags !== undefined || headers !== undefined;
    const made = wire.Meta.make({
      ...meta,
      tags: texts("tags", tags),
      headers: textsByName("headers", headers),
    });
    return wire.NewEvent.make({
      id: this.id,
      stream: this.stream,
      type: this.type,
      schemaVersion: this.options.schemaVersion ?? 1,
      ...content,
      ...(hasMeta ? { meta: made } : {}),
    });
  }
}

/** A type of events, as `Lease.declare` tells it. */
export interface Kind {
  readonly name: string;
  /** The schema version; 1 if nothing is said. */
  readonly version?: number;
  /**
   * What the data looks like, as `anabranch schema types` prints it: `text`, `bool`,
   * `{unsigned: 64}`, `{list: …}`, `{fields: {total: {shape: …, required: true}}}`.
   */
  readonly shape?: ToJson;
}

/** A stored event. */
export class Event {
  readonly position: Position;
  /** Its number in its stream, from 0. */
  readonly version: bigint;
  /** When the log recorded it: microseconds since 1970, UTC. Information only. */
  readonly recordedAtUs: bigint;
  readonly id: string;
  readonly stream: string;
  readonly type: string;
  readonly schemaVersion: number;
  /** Its data as it was appended, byte for byte. */
  readonly content: Uint8Array;
  readonly meta: wire.Meta;

  constructor(message: wire.Event) {
    this.position = positionOf(message.position);
    this.version = message.version;
    this.recordedAtUs = message.recordedAtUs;
    this.id = message.id;
    this.stream = message.stream;
    this.type = message.type;
    this.schemaVersion = message.schemaVersion;
    this.content = message.data ?? new TextEncoder().encode(message.text ?? "");
    this.meta = message.meta ?? wire.Meta.make({});
  }

  /** What stands before the first slash of its stream. */
  get category(): string {
    return this.stream.slice(0, this.stream.indexOf("/"));
  }

  /** What stands behind it. */
  get key(): string {
    return this.stream.slice(this.stream.indexOf("/") + 1);
  }

  /**
   * Its data as a JSON value; undefined if there is none. Whole numbers are exact. Throws a
   * `SyntaxError` where it is no JSON: see `meta.contentType`.
   */
  get data(): Json | undefined {
    return this.content.length === 0 ? undefined : parse(new TextDecoder().decode(this.content));
  }
}

/**
 * Which events are wanted. What is empty wants everything; of categories, types and streams one
 * must fit, of headers and tags all must.
 */
export interface Filter {
  readonly categories?: readonly string[];
  readonly types?: readonly string[];
  readonly streams?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly tags?: readonly string[];
}

const FILTER: Names<Filter> = { categories: true, types: true, streams: true, headers: true, tags: true };

/** What the log takes. */
export function filterTo(filter: Filter): wire.Filter {
  known("a filter", filter, FILTER);
  const headers = Object.entries(textsByName("headers", filter.headers));
  return {
    categories: texts("categories", filter.categories),
    types: texts("types", filter.types),
    streams: texts("streams", filter.streams),
    headers: headers.map(([name, value]) => ({ name, value })),
    tags: texts("tags", filter.tags),
  };
}

/** A copy of a cut. */
export function checkedCut(cut: Cut): Cut {
  const counts = entries("a cut", cut).map(([partition, count]) => {
    const isCount = typeof count === "bigint" || Number.isSafeInteger(count);
    if (!/^[0-9]{1,10}$/.test(partition) || !isCount || (count as bigint | number) < 0) {
      throw new TypeError(`a cut is counts by partitions, and ${partition}: ${String(count)} is none`);
    }
    return [partition, BigInt(count as bigint | number)];
  });
  return Object.fromEntries(counts) as Cut;
}

/** The type is one of these (none: any), and all of these tags are present. */
export interface Match {
  readonly types?: readonly string[];
  readonly tags?: readonly string[];
}

/** No event that `after` does not include matches any of `items`. */
export interface NoMatch {
  readonly items: readonly Match[];
  readonly after: Cut;
}

const MATCH: Names<Match> = { types: true, tags: true };
const NO_MATCH: Names<NoMatch> = { items: true, after: true };

/** What must hold for an append to be written. */
export function conditions(
  events: readonly NewEvent[],
  expect: Expect | Readonly<Record<string, Expect>> | undefined,
  noMatch: NoMatch | undefined,
): wire.Condition[] {
  let states: Readonly<Record<string, Expect>> = {};
  if (typeof expect === "object") {
    states = Object.fromEntries(entries("expect", expect)) as Record<string, Expect>;
  } else if (expect !== undefined) {
    const streams = new Set(events.map((event) => event.stream));
    if (streams.size > 1) {
      throw new TypeError("the events are of several streams: say what is expected of which, {stream: …}");
    }
    states = Object.fromEntries([...streams].map((stream) => [stream, expect]));
  }
  const made = Object.entries(states).map(([stream, state]) =>
    wire.Condition.make({ stream: { stream, expect: expectTo(state) } }),
  );
  if (noMatch !== undefined) {
    const { items, after } = known("noMatch", noMatch, NO_MATCH);
    const wanted = items.map((item) => {
      const { types, tags } = known("an item of noMatch", item, MATCH);
      return { types: texts("types", types), tags: texts("tags", tags) };
    });
    made.push(wire.Condition.make({ noMatch: { items: wanted, after: { counts: checkedCut(after) } } }));
  }
  return made;
}

/** The same state, if it is one. A misspelt one would otherwise be another, or none. */
export function checkedState(state: Expect): Expect {
  const isVersion = (typeof state === "bigint" || Number.isSafeInteger(state)) && Number(state) >= 0;
  if (isVersion || state === "any" || state === "empty" || state === "exists") {
    return state;
  }
  throw new TypeError(`${String(state)} is no state to expect: a version, any, empty or exists`);
}

function expectTo(given: Expect): wire.Expect {
  const state = checkedState(given);
  return typeof state === "string" ? { [state]: true } : { at: BigInt(state) };
}

function positionOf(message: wire.Position | undefined): Position {
  return new Position(message?.partition ?? 0, message?.offset ?? 0n);
}

/** Where an event stands. */
export function placedOf(message: wire.Placed): Placed {
  return { position: positionOf(message.position), version: message.version };
}
