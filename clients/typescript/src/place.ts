// Where a reader is, kept.

import { open, readFile, rename } from "node:fs/promises";

import { AnabranchError } from "./errors.js";
import { type Json, compose, parse } from "./json.js";
import type { Cut } from "./log.js";
import { isObject } from "./shape.js";

/** Keeps a place of a reader. Anything with these two methods will do. */
export interface Place {
  /** The text that was saved last; undefined: nothing was. */
  load(): Promise<string | undefined> | string | undefined;
  /** Keeps a text; when it is done, `load` gives it, also after a crash. */
  save(text: string): Promise<void> | void;
}

/** A place in a file, replaced as a whole. */
export class FilePlace implements Place {
  constructor(private readonly path: string) {}

  /** What the file holds. */
  async load(): Promise<string | undefined> {
    try {
      return await readFile(this.path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  }

  /** Writes it beside, and renames. */
  async save(text: string): Promise<void> {
    const fresh = `${this.path}.new`;
    const file = await open(fresh, "w");
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, this.path);
  }
}

/** A place as a text. All clients write it alike. */
export function writePlace(log: string, cut: Cut): string {
  const counts = Object.entries(cut).map(([partition, count]) => [partition, count.toString()]);
  return compose({ log, cut: Object.fromEntries(counts) as Record<string, string> });
}

/** The place that a text says; throws if it is one in another log. */
export function readPlace(log: string, text: string | undefined): Cut {
  if (text === undefined) {
    return {};
  }
  const read = placeOf(text);
  if (read === undefined) {
    const what = `what was kept is no place: ${text.slice(0, 80)}; remove it to read everything again`;
    throw new AnabranchError("bad-place", what);
  }
  if (read.log !== log) {
    const what = `the place is one in the log ${read.log}, and this is ${log}; remove it to read everything again`;
    throw new AnabranchError("other-log", what);
  }
  return read.cut;
}

function placeOf(text: string): { log: string; cut: Cut } | undefined {
  let found: Json;
  try {
    found = parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(found) || typeof found["log"] !== "string" || !isObject(found["cut"])) {
    return undefined;
  }
  const cut: Cut = {};
  for (const [partition, count] of Object.entries(found["cut"])) {
    if (!/^[0-9]{1,10}$/.test(partition) || typeof count !== "string" || !/^[0-9]{1,20}$/.test(count)) {
      return undefined;
    }
    cut[Number(partition)] = BigInt(count);
  }
  return { log: found["log"], cut };
}
