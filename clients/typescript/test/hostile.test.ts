// The conformance cases against a server that does what the case says.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { AnabranchError, type Client, type Json, open, parseJson } from "../src/index.js";
import { CLIENTS } from "./real_server.js";
import { type Scripted, ScriptedServer } from "./scripted_server.js";
import { type Step, Steps, compare, said } from "./steps.js";

interface Seen {
  requests?: number;
  requests_min?: number;
  requests_max?: number;
  seconds_min?: number;
  seconds_max?: number;
  same?: string[];
  same_body?: boolean;
  bodies?: Json[];
  headers?: { [name: string]: Json }[];
}

interface Case {
  name: string;
  answers?: Scripted[];
  versions?: string[];
  version?: Json;
  opens?: Json;
  steps?: Step[];
  seen?: Seen;
}

const text = readFileSync(join(CLIENTS, "conformance/hostile.json"), "utf8");
const { cases } = parseJson(text) as unknown as { cases: Case[] };

describe("hostile.json", () => {
  for (const one of cases) {
    it(one.name, async () => {
      const server = await ScriptedServer.start(one);
      const began = performance.now();
      try {
        const client = await opened(server, one);
        if (client !== undefined) {
          const steps = new Steps(client, () => Promise.resolve());
          for (const step of one.steps ?? []) {
            await steps.run(step);
          }
          check(one.seen ?? {}, server, (performance.now() - began) / 1000);
        }
      } finally {
        server.close();
      }
    });
  }
});

async function opened(server: ScriptedServer, one: Case): Promise<Client | undefined> {
  try {
    const client = await open(server.url, { timeoutMs: 10_000 });
    assert.equal(one.opens, undefined, "it was opened");
    return client;
  } catch (error) {
    if (!(error instanceof AnabranchError) || one.opens === undefined) {
      throw error;
    }
    compare(one.opens, said(error), "what open threw");
    return undefined;
  }
}

function check(seen: Seen, { requests }: ScriptedServer, seconds: number): void {
  assert.ok(requests.length >= (seen.requests_min ?? 0), `${requests.length} requests`);
  assert.ok(requests.length <= (seen.requests_max ?? requests.length), `${requests.length} requests`);
  assert.equal(requests.length, seen.requests ?? requests.length);
  assert.ok(seconds >= (seen.seconds_min ?? 0), `after ${seconds} s`);
  assert.ok(seconds < (seen.seconds_max ?? 60), `after ${seconds} s`);
  for (const name of seen.same ?? []) {
    const values = new Set(requests.map(({ headers }) => headers.get(name)));
    assert.equal(values.size, 1);
    assert.ok(!values.has(undefined));
  }
  if (seen.same_body) {
    assert.equal(new Set(requests.map(({ body }) => body.toString("hex"))).size, 1);
  }
  seen.bodies?.forEach((pattern, index) => compare(pattern, requests[index]?.json(), "a request's body"));
  seen.headers?.forEach((pattern, index) => {
    const found = Object.keys(pattern).map((name) => [name, requests[index]?.headers.get(name)]);
    compare(pattern, Object.fromEntries(found), "headers");
  });
}
