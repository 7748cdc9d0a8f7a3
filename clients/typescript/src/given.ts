// What a caller gives, checked: JavaScript has no types that would say so, and what is passed over in
// silence is an append without its condition, or a read of something else.

/** All names of options of this type. The compiler knows when one is missing. */
export type Names<T> = Record<keyof T, true>;

/** The same options; throws where one has a name that nobody knows. */
export function known<T extends object>(what: string, given: T, names: Names<T>): T {
  if (typeof given !== "object" || given === null || Symbol.iterator in given) {
    throw new TypeError(`${what} has its options in an object, and not ${shown(given)}`);
  }
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(names, name)) {
      throw new TypeError(`${what} has no option ${name}; it has ${Object.keys(names).join(", ")}`);
    }
  }
  return given;
}

/** What a caller has given as a list of texts. A text alone would be taken for its letters. */
export function texts(name: string, value: unknown): string[] {
  if (value === undefined) {
    return [];
  }
  if (!Array.isArray(value)) {
    throw new TypeError(`${name} is a list of texts, and not ${shown(value)}`);
  }
  return value.map((item: unknown) => {
    if (typeof item !== "string") {
      throw new TypeError(`${name} is a list of texts, and ${shown(item)} in it is none`);
    }
    return item;
  });
}

/** What a caller has given as an object of texts. A text or a `Map` would be taken for another one. */
export function textsByName(name: string, value: unknown): Record<string, string> {
  if (value === undefined) {
    return {};
  }
  return Object.fromEntries(
    entries(name, value).map(([key, item]) => {
      if (typeof item !== "string") {
        throw new TypeError(`${name} is an object of texts, and ${shown(item)} in it is none`);
      }
      return [key, item];
    }),
  );
}

/** The parts of what is to be an object. */
export function entries(name: string, value: unknown): [string, unknown][] {
  if (typeof value !== "object" || value === null || Symbol.iterator in value) {
    throw new TypeError(`${name} is an object, and not ${shown(value)}`);
  }
  return Object.entries(value);
}

function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
