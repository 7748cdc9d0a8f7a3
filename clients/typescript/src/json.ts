// JSON in which no whole number is rounded: what a `number` cannot hold exactly is a `bigint`.

/** A JSON value. A whole number beyond two to the power of 53 is a `bigint`. */
export type Json = null | boolean | number | bigint | string | Json[] | { [name: string]: Json };

/** What can be written as JSON. A part that is `undefined` is left out. */
export type ToJson =
  | null
  | undefined
  | boolean
  | number
  | bigint
  | string
  | readonly ToJson[]
  | { readonly [name: string]: ToJson }
  | { toJSON(): ToJson };

/** The deepest nesting that is taken in. */
const DEPTH_MAX = 512;

// A number of so many digits may not be held exactly. In a text it costs a little time only.
const MAYBE_LARGE = /[\s:,[-][0-9]{16}/;

/** The value of a JSON text; throws a `SyntaxError` where it is none. */
export function parse(text: string): Json {
  if (!MAYBE_LARGE.test(` ${text}`)) {
    return JSON.parse(text) as Json;
  }
  return new Parser(text).whole();
}

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  whole(): Json {
    const value = this.value(0);
    this.space();
    if (this.at < this.text.length) {
      throw this.wrong();
    }
    return value;
  }

  private wrong(): SyntaxError {
    return new SyntaxError(`no JSON at ${this.at}: ${this.text.slice(this.at, this.at + 20)}`);
  }

  private space(): void {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) {
      this.at += 1;
    }
  }

  private takes(sign: string): boolean {
    this.space();
    if (this.text[this.at] !== sign) {
      return false;
    }
    this.at += 1;
    return true;
  }

  private value(depth: number): Json {
    if (depth > DEPTH_MAX) {
      throw new SyntaxError(`JSON that is nested more than ${DEPTH_MAX} deep`);
    }
    this.space();
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth);
      case "[":
        return this.list(depth);
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  private object(depth: number): Json {
    const found: { [name: string]: Json } = {};
    this.at += 1;
    if (this.takes("}")) {
      return found;
    }
    do {
      this.space();
      const name = this.string();
      if (!this.takes(":")) {
        throw this.wrong();
      }
      // Not by assignment: a name may be `__proto__`.
      const property = { enumerable: true, configurable: true, writable: true };
      Object.defineProperty(found, name, { ...property, value: this.value(depth + 1) });
    } while (this.takes(","));
    if (!this.takes("}")) {
      throw this.wrong();
    }
    return found;
  }

  private list(depth: number): Json {
    const found: Json[] = [];
    this.at += 1;
    if (this.takes("]")) {
      return found;
    }
    do {
      found.push(this.value(depth + 1));
    } while (this.takes(","));
    if (!this.takes("]")) {
      throw this.wrong();
    }
    return found;
  }

  private string(): string {
    const start = this.at;
    if (this.text[start] !== '"') {
      throw this.wrong();
    }
    for (let at = start + 1; at < this.text.length; at += 1) {
      const sign = this.text[at];
      if (sign === '"') {
        this.at = at + 1;
        return JSON.parse(this.text.slice(start, this.at)) as string;
      }
      at += sign === "\\" ? 1 : 0;
    }
    throw this.wrong();
  }

  private word(word: string, value: boolean | null): boolean | null {
    if (!this.text.startsWith(word, this.at)) {
      throw this.wrong();
    }
    this.at += word.length;
    return value;
  }

  private number(): number | bigint {
    const pattern = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found === undefined) {
      throw this.wrong();
    }
    this.at += found.length;
    const near = Number(found);
    const isWhole = /^-?[0-9]+$/.test(found);
    return isWhole && !Number.isSafeInteger(near) ? BigInt(found) : near;
  }
}

/** The JSON text of a value; throws a `TypeError` where it has none. */
export function compose(value: ToJson): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") {
    return JSON.stringify(value);
  }
  if (typeof value === "bigint") {
    return value.toString();
  }
  if (typeof value === "number") {
    if (!Number.isFinite(value)) {
      throw new TypeError(`${value} has no JSON form`);
    }
    return JSON.stringify(value);
  }
  if (typeof value !== "object") {
    throw new TypeError(`a ${typeof value} has no JSON form`);
  }
  if ("toJSON" in value && typeof value.toJSON === "function") {
    return compose(value.toJSON());
  }
  if (Array.isArray(value)) {
    return `[${value.map((item: ToJson) => compose(item ?? null)).join(",")}]`;
  }
  const parts = Object.entries(value as { [name: string]: ToJson });
  const said = parts.filter(([, item]) => item !== undefined);
  return `{${said.map(([name, item]) => `${JSON.stringify(name)}:${compose(item)}`).join(",")}}`;
}
