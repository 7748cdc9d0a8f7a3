// The conformance cases that all clients share, against a real server.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { open, parseJson } from "../src/index.js";
import { CLIENTS, RealServer } from "./real_server.js";
import { type Step, Steps } from "./steps.js";

interface Cases {
  server: string;
  cases: { name: string; steps: Step[] }[];
}

for (const file of ["log.json", "owning.json", "shop.json"]) {
  const text = readFileSync(join(CLIENTS, "conformance", file), "utf8");
  const cases = parseJson(text) as unknown as Cases;
  describe(file, () => {
    let server: RealServer;
    before(async () => {
      server = await RealServer.start(cases.server);
    });
    after(() => server.close());
    for (const { name, steps } of cases.cases) {
      it(name, async () => {
        const all = new Steps(await open(server.url), () => server.restart());
        for (const step of steps) {
          await all.run(step);
        }
      });
    }
  });
}
