// Carries out the steps of conformance cases; `clients/conformance/README.md` says what they are.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import {
  AnabranchError,
  type AppendOptions,
  type Client,
  type Cut,
  Event,
  type EventOptions,
  type Filter,
  type Json,
  type Kind,
  type Lease,
  NewEvent,
  type NoMatch,
  type Place,
  Position,
  Session,
  type ToJson,
  open,
} from "../src/index.js";

/** One step, as a file of cases has it. */
export interface Step {
  do: string;
  with?: Parts;
  gives?: Json;
  fails?: Json;
  as?: string;
}

type Parts = { [name: string]: unknown };

class Failed extends Error {}

class MemoryPlace implements Place {
  text: string | undefined;

  load(): string | undefined {
    return this.text;
  }

  save(text: string): void {
    this.text = text;
  }
}

/** The steps of one case, and what came out of them. */
export class Steps {
  private readonly known = new Map<string, unknown>();
  private readonly places = new Map<string, MemoryPlace>();

  constructor(
    private readonly client: Client,
    private readonly restart: () => Promise<void>,
  ) {}

  /** One step. What must come out comes out, or it throws. */
  async run(step: Step): Promise<void> {
    let came: unknown;
    try {
      came = await this.carryOut(step.do, this.resolved(step.with ?? {}) as Parts);
    } catch (error) {
      const isMeant = error instanceof AnabranchError || error instanceof TypeError;
      if (!isMeant || step.fails === undefined) {
        throw error;
      }
      compare(this.resolved(step.fails), said(error), `what ${step.do} threw`);
      return;
    }
    assert.equal(step.fails, undefined, `${step.do} did not fail`);
    if (step.gives !== undefined) {
      compare(this.resolved(step.gives), plain(came), `what ${step.do} gave`);
    }
    if (step.as !== undefined) {
      this.known.set(step.as, came);
    }
  }

  /** The value with what came out before in the place of its name. */
  private resolved(value: unknown): unknown {
    if (Array.isArray(value)) {
      return value.map((item) => this.resolved(item));
    }
    if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) {
      return value;
    }
    const parts = value as Parts;
    if (typeof parts["$"] === "string") {
      const [name = "", ...path] = parts["$"].split(".");
      const known = this.known.get(name);
      return path.length === 0 ? known : path.reduce((found, part) => (found as Parts)[part], plain(known));
    }
    return Object.fromEntries(Object.entries(parts).map(([name, item]) => [name, this.resolved(item)]));
  }

  private async carryOut(what: string, parts: Parts): Promise<unknown> {
    const { client } = this;
    const filter = (parts["filter"] ?? {}) as Filter;
    const cut = cutOf(parts["cut"]);
    switch (what) {
      case "open": {
        const log = parts["log"] as string;
        return { log: (await open(client.url, { log })).log };
      }
      case "event":
        return eventOf(parts);
      case "append":
        return this.append(parts);
      case "read":
        return all(client.read(filter, { ...optionsOf(parts, "filter"), ...cut }));
      case "read_stream": {
        return all(client.readStream(parts["stream"] as string, optionsOf(parts, "stream")));
      }
      case "head":
        return client.head(optionsOf(parts));
      case "find":
        return (await client.find(parts["id"] as string)) ?? null;
      case "follow":
        return this.follow(parts, filter, cut);
      case "consume":
        return this.consume(parts, filter);
      case "place": {
        const place = this.place(parts);
        place.text = (parts["text"] as string | undefined) ?? place.text;
        return place.text;
      }
      case "session":
        return client.session(parts["token"] as string | undefined);
      case "catch_up":
        return (parts["session"] as Session).catchUp();
      case "send":
        return this.send(parts);
      case "query":
        return this.query(parts);
      case "register": {
        return client.register(parts["name"] as string, optionsOf(parts, "name"));
      }
      case "declare":
        return (parts["lease"] as Lease).declare(parts["category"] as string, parts["kinds"] as Kind[]);
      case "release":
        return (parts["lease"] as Lease).release(parts["give_up"] === true);
      case "lost":
        for (let attempt = 0; attempt < 600; attempt += 1) {
          if ((parts["lease"] as Lease).lost !== undefined) {
            return undefined;
          }
          await sleep(50);
        }
        throw new Error("the lease was not lost");
      case "wait":
        return sleep(Number(parts["seconds"]) * 1000);
      case "restart":
        return this.restart();
      default:
        throw new Error(`there is no step ${what}`);
    }
  }

  private append(parts: Parts): Promise<unknown> {
    const events = (parts["events"] as unknown[]).map((item) =>
      item instanceof NewEvent ? item : eventOf(item as Parts),
    );
    const noMatch = parts["no_match"] as { items: NoMatch["items"]; after: unknown } | undefined;
    const options: AppendOptions = {
      ...optionsOf(parts, "events", "no_match", "lease"),
      ...(noMatch ? { noMatch: { items: noMatch.items, after: cutOf(noMatch.after).cut ?? {} } } : {}),
    };
    const by = (parts["lease"] ?? this.client) as Lease | Client;
    return by.append(events, options);
  }

  private async follow(parts: Parts, filter: Filter, cut: { cut?: Cut }): Promise<unknown> {
    const controller = new AbortController();
    const others = (async () => {
      for (const step of (parts["meanwhile"] ?? []) as Step[]) {
        await this.run(step);
      }
    })();
    others.catch((error: unknown) => controller.abort(error));
    const taken: Event[] = [];
    const said = optionsOf(parts, "filter", "take", "meanwhile");
    const options = { ...said, ...cut, signal: controller.signal };
    for await (const event of this.client.follow(filter, options)) {
      taken.push(event);
      if (taken.length === Number(parts["take"])) {
        break;
      }
    }
    await others;
    return taken;
  }

  private async consume(parts: Parts, filter: Filter): Promise<unknown> {
    const taken: Event[] = [];
    const handle = (event: Event): void => {
      taken.push(event);
      if (taken.length === parts["fail_at"]) {
        throw new Failed();
      }
    };
    const until = (): boolean => taken.length === parts["take"];
    try {
      await this.client.consume(handle, { place: this.place(parts), filter, until });
    } catch (error) {
      if (!(error instanceof Failed)) {
        throw error;
      }
    }
    return taken;
  }

  private place(parts: Parts): MemoryPlace {
    const name = parts["place"] as string;
    const place = this.places.get(name) ?? new MemoryPlace();
    this.places.set(name, place);
    return place;
  }

  private send(parts: Parts): Promise<unknown> {
    const { stream, command, data, session, ...options } = parts;
    const by = session instanceof Session ? session : this.client;
    return by.send(stream as string, command as string, (data ?? {}) as ToJson, optionsOf(options));
  }

  private query(parts: Parts): Promise<unknown> {
    const { view, query, arguments: given, session, ...options } = parts;
    const by = session instanceof Session ? session : this.client;
    const fields = (given ?? {}) as { [name: string]: ToJson };
    return by.query(view as string, query as string, fields, optionsOf(options));
  }
}

/** Options as they are named here, with times in milliseconds; those of these names are not among them. */
function optionsOf(parts: Parts, ...others: string[]): { [name: string]: never } {
  const times = ["timeout", "wait", "patience", "idle", "lease_time"];
  const said = Object.entries(parts).filter(([name]) => !others.includes(name));
  const options = said.map(([name, value]) =>
    times.includes(name) ? [`${camel(name)}Ms`, Number(value) * 1000] : [camel(name), value],
  );
  return Object.fromEntries(options) as { [name: string]: never };
}

async function all(events: AsyncIterable<Event>): Promise<Event[]> {
  const found: Event[] = [];
  for await (const event of events) {
    found.push(event);
  }
  return found;
}

function cutOf(value: unknown): { cut?: Cut } {
  if (value === undefined) {
    return {};
  }
  const counts = Object.entries(value as { [partition: string]: number | bigint });
  return { cut: Object.fromEntries(counts.map(([partition, count]) => [partition, BigInt(count)])) };
}

/** The event that a case means. */
function eventOf(parts: Parts): NewEvent {
  const { stream, type, data, base64, ...rest } = parts;
  const content = typeof base64 === "string" ? new Uint8Array(Buffer.from(base64, "base64")) : data;
  const options = Object.fromEntries(Object.entries(rest).map(([name, item]) => [camel(name), item]));
  return new NewEvent(stream as string, type as string, content as ToJson, options as EventOptions);
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** What came out, as JSON has it. */
function plain(value: unknown): unknown {
  if (value instanceof Position) {
    return value.toString();
  }
  if (value instanceof Event) {
    const { content, meta, ...parts } = value;
    const isJson = meta.contentType === undefined || meta.contentType === "application/json";
    return {
      ...(plain(parts) as object),
      category: value.category,
      key: value.key,
      data: isJson ? value.data : null,
      base64: Buffer.from(content).toString("base64"),
      content_type: meta.contentType,
      tags: meta.tags,
      headers: meta.headers,
      correlation_id: meta.correlationId,
      causation_id: meta.causationId,
      source: meta.source,
    };
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (typeof value === "object" && value !== null) {
    const parts = Object.entries(value);
    return Object.fromEntries(parts.map(([name, item]) => [snake(name), plain(item)]));
  }
  return value;
}

/** The fields of an error, and all its names. */
export function said(error: AnabranchError | TypeError): unknown {
  const kinds: string[] = [];
  for (let at = Object.getPrototypeOf(error); at !== Error.prototype; at = Object.getPrototypeOf(at)) {
    kinds.push(at.constructor.name);
  }
  const afterMs = error instanceof AnabranchError ? error.retryAfterMs : undefined;
  const after = afterMs === undefined ? undefined : afterMs / 1000;
  return { ...(plain({ ...error }) as object), retry_after: after, kind: kinds };
}

/** Throws where the value is not what the pattern says. */
export function compare(pattern: unknown, value: unknown, at: string): void {
  pattern = plain(pattern);
  if (Array.isArray(pattern)) {
    assert.ok(Array.isArray(value), `${at}: it is no list`);
    assert.equal(value.length, pattern.length, `${at}: how many`);
    pattern.forEach((item, index) => compare(item, (value as unknown[])[index], `${at}, ${index}`));
  } else if (typeof pattern === "object" && pattern !== null) {
    assert.ok(typeof value === "object" && value !== null, `${at}: it is no object`);
    for (const [name, item] of Object.entries(pattern)) {
      const found = (value as Parts)[name];
      if (name === "kind") {
        assert.ok((found as unknown[]).includes(item), `${at}: it is a ${String(found)}, not a ${String(item)}`);
      } else {
        compare(item, found, `${at}, ${name}`);
      }
    }
  } else if (typeof pattern === "number" && typeof value === "bigint") {
    assert.equal(value, BigInt(pattern), at);
  } else {
    assert.equal(value ?? null, pattern ?? null, at);
  }
}
