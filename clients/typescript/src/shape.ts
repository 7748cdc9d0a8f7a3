// How values stand in JSON. The generated types are made of these; reading is checking.

import type { Json } from "./json.js";

export type { Json };

/** JSON that is not what it should be, and where. */
export class Misshapen extends Error {}

/** Reads a value from JSON and writes it there. */
export interface Shape<T> {
  read(value: Json, at: string): T;
  write(value: T): Json;
  /** What it is when it is not there. */
  none(): T;
}

/** A shape of what has parts. */
export interface RecordShape<T> extends Shape<T> {
  /** A record with these parts; the others say nothing. */
  make(parts: Partial<T>): T;
}

function expected(what: string, value: Json, at: string): Misshapen {
  const shown = typeof value === "object" ? (value === null ? "null" : "an object") : String(value);
  return new Misshapen(`${at}: ${what} was expected, and not ${shown.slice(0, 60)}`);
}

/** A text. */
export function text(): Shape<string> {
  return {
    read(value, at) {
      if (typeof value !== "string") {
        throw expected("a text", value, at);
      }
      return value;
    },
    write: (value) => value,
    none: () => "",
  };
}

/** True or false. */
export function boolean(): Shape<boolean> {
  return {
    read(value, at) {
      if (typeof value !== "boolean") {
        throw expected("true or false", value, at);
      }
      return value;
    },
    write: (value) => value,
    none: () => false,
  };
}

const U32_MAX = (1n << 32n) - 1n;
const U64_MAX = (1n << 64n) - 1n;

function whole(value: Json, most: bigint, at: string): bigint {
  let found: bigint | undefined;
  // JSON of protobuf may write a number either way.
  if (typeof value === "string" && /^[0-9]{1,20}$/.test(value)) {
    found = BigInt(value);
  } else if (typeof value === "bigint") {
    found = value;
  } else if (typeof value === "number" && Number.isSafeInteger(value)) {
    found = BigInt(value);
  }
  if (found === undefined || found < 0n || found > most) {
    throw expected(`a whole number from 0 to ${most}`, value, at);
  }
  return found;
}

/** A whole number of 32 bits. */
export function uint32(): Shape<number> {
  return {
    read: (value, at) => Number(whole(value, U32_MAX, at)),
    write: (value) => value,
    none: () => 0,
  };
}

/** A whole number of 64 bits. */
export function uint64(): Shape<bigint> {
  return { read: (value, at) => whole(value, U64_MAX, at), write: (value) => value, none: () => 0n };
}

/** The same in quotes, as JSON of protobuf has it: no reader rounds it. */
export function quoted64(): Shape<bigint> {
  return { ...uint64(), write: (value) => value.toString() };
}

/** Bytes, in Base64. */
export function octets(): Shape<Uint8Array> {
  return {
    read(value, at) {
      if (typeof value !== "string" || !/^[A-Za-z0-9+/_-]*={0,2}$/.test(value)) {
        throw expected("Base64", value, at);
      }
      return new Uint8Array(Buffer.from(value, "base64"));
    },
    write: (value) => Buffer.from(value).toString("base64"),
    none: () => new Uint8Array(),
  };
}

/** Any JSON value: it belongs to a service. */
export function raw(): Shape<Json> {
  return { read: (value) => value, write: (value) => value, none: () => null };
}

/** One of these words. */
export function choice<T extends string>(words: [T, ...T[]]): Shape<T> {
  return {
    read(value, at) {
      const found = words.find((word) => word === value);
      if (found === undefined) {
        throw expected(`one of ${words.join(", ")}`, value, at);
      }
      return found;
    },
    write: (value) => value,
    none: () => words[0],
  };
}

/** A shape that is named lazily. */
export function ref<T>(shape: () => Shape<T>): Shape<T> {
  return {
    read: (value, at) => shape().read(value, at),
    write: (value) => shape().write(value),
    none: () => shape().none(),
  };
}

/** What may not be there. */
export function optional<T>(inner: Shape<T>): Shape<T | undefined> {
  return {
    read: (value, at) => (value === null ? undefined : inner.read(value, at)),
    write: (value) => (value === undefined ? null : inner.write(value)),
    none: () => undefined,
  };
}

/** A list. */
export function many<T>(inner: Shape<T>): Shape<T[]> {
  return {
    read(value, at) {
      if (!Array.isArray(value)) {
        throw expected("a list", value, at);
      }
      return value.map((item, index) => inner.read(item, `${at}[${index}]`));
    },
    write: (value) => value.map((item) => inner.write(item)),
    none: () => [],
  };
}

/** Values by their keys. */
export function table<K extends string | number, T>(key: Shape<K>, inner: Shape<T>): Shape<Record<K, T>> {
  return {
    read(value, at) {
      if (!isObject(value)) {
        throw expected("an object", value, at);
      }
      const found = Object.entries(value).map(([name, item]) => [
        key.read(name, `a key of ${at}`),
        inner.read(item, `${at}[${JSON.stringify(name)}]`),
      ]);
      return Object.fromEntries(found) as Record<K, T>;
    },
    write(value) {
      const parts = Object.entries<T>(value).map(([name, item]) => [name, inner.write(item)]);
      return Object.fromEntries(parts) as Json;
    },
    none: () => ({}) as Record<K, T>,
  };
}

/** A part: its name here, its name in JSON, how it stands there, whether it may be missing. */
type Part = [name: string, json: string, shape: Shape<never>, optional?: true];

/** What has parts. A reader passes over parts that it does not know. */
export function record<T>(parts: () => unknown[]): RecordShape<T> {
  const all = (): Part[] => parts() as Part[];
  return {
    read(value, at) {
      if (!isObject(value)) {
        throw expected("an object", value, at);
      }
      const found: { [name: string]: unknown } = {};
      for (const [name, json, shape, isOptional] of all()) {
        const item = Object.hasOwn(value, json) ? value[json] : undefined;
        if (item === undefined && !isOptional) {
          throw new Misshapen(`${at}: ${json} is missing`);
        }
        const isThere = item !== undefined && (item !== null || !isOptional);
        found[name] = isThere ? shape.read(item, `${at}.${json}`) : shape.none();
      }
      return found as T;
    },
    write(value) {
      const written: { [name: string]: Json } = {};
      for (const [name, json, shape, isOptional] of all()) {
        const item = (value as { [name: string]: unknown })[name];
        if (item !== undefined && !(isOptional && isNothing(item, shape.none()))) {
          written[json] = shape.write(item as never);
        }
      }
      return written;
    },
    none() {
      return this.make({});
    },
    make(said) {
      const made = all().map(([name, , shape]) => [name, shape.none()]);
      return { ...Object.fromEntries(made), ...said } as T;
    },
  };
}

/** Whether a part says nothing, so that it can be left out. */
function isNothing(item: unknown, none: unknown): boolean {
  if (typeof item !== "object" || item === null || typeof none !== "object") {
    return item === none;
  }
  return item instanceof Uint8Array ? item.length === 0 : Object.keys(item).length === 0;
}

export function isObject(value: Json | undefined): value is { [name: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
