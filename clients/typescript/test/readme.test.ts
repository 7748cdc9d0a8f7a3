// The programs of the README, as they stand there, against a real server.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { open } from "../src/index.js";
import { CLIENTS, RealServer } from "./real_server.js";

// Inside the package, so that they find it by its name.
const FOLDER = fileURLToPath(new URL("../readme/", import.meta.url));
const README = readFileSync(join(CLIENTS, "typescript/README.md"), "utf8");
const [ORDER, FOLLOW, WRITE] = programs();

function programs(): [string, string, string] {
  mkdirSync(FOLDER, { recursive: true });
  const found = [...README.matchAll(/^```js\n(.*?)^```$/gms)].map(([, text = ""]) => text);
  assert.equal(found.length, 3);
  return found.map((text, index) => {
    const path = join(FOLDER, `${index}.mjs`);
    writeFileSync(path, text);
    return path;
  }) as [string, string, string];
}

/** The lines that a program prints. */
async function run(program: string, ...args: string[]): Promise<string[]> {
  const done = await promisify(execFile)(process.execPath, [program, ...args], { timeout: 60_000 });
  return done.stdout.trimEnd().split("\n");
}

/** The positions in a file, when there are so many or after a while. */
async function printed(path: string, count: number): Promise<string[]> {
  const positions = (): string[] => {
    const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
    return lines.map((line) => line.split(" ")[0] ?? "");
  };
  for (let attempt = 0; attempt < 200 && positions().length < count; attempt += 1) {
    await sleep(50);
  }
  // What is there twice would come at once.
  await sleep(200);
  return positions().slice(0, count);
}

describe("the programs of the README", () => {
  it("place an order, see it in a view and hear how it ends", async () => {
    const server = await RealServer.start("demo");
    try {
      const [placed, seen, ended, last] = await run(ORDER, server.url, "readme-1");
      assert.equal(placed, "placed at version 0");
      assert.match(seen ?? "", /^in the view it is [a-z]/);
      assert.equal(ended, "it ended with OrderConfirmed");
      assert.equal(last, "in the view it is confirmed");
    } finally {
      await server.close();
    }
  });

  it("print every event once through killed servers and programs", async () => {
    const server = await RealServer.start("demo");
    try {
      const place = join(server.directory, "place");
      const path = join(server.directory, "printed");
      for (const part of ["a", "b"]) {
        const out = openSync(path, "a");
        const following = spawn(process.execPath, [FOLLOW, server.url, place], {
          stdio: ["ignore", out, "inherit"],
        });
        closeSync(out);
        try {
          await run(ORDER, server.url, `readme-${part}1`);
          await server.restart();
          await run(ORDER, server.url, `readme-${part}2`);
          const expected: string[] = [];
          for await (const event of (await open(server.url)).read()) {
            expected.push(event.position.toString());
          }
          assert.deepEqual(await printed(path, expected.length), expected);
        } finally {
          // Between two events, as it waits.
          const ended = new Promise((resolve) => following.once("exit", resolve));
          following.kill("SIGKILL");
          await ended;
        }
      }
    } finally {
      await server.close();
    }
  });

  it("write what they may", async () => {
    const server = await RealServer.start("serve");
    try {
      assert.deepEqual(await run(WRITE, server.url), ["hello", "it belongs to bookings"]);
    } finally {
      await server.close();
    }
  });
});
