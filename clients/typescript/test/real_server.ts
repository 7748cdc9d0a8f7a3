// A real server for the tests: the program that ANABRANCH_BIN names, on a free port.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { Unreachable, open } from "../src/index.js";

/** The folder of all clients. */
export const CLIENTS = fileURLToPath(new URL("../../../", import.meta.url));

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") {
    throw new Error("no port was given");
  }
  return address.port;
}

/** `serve`, or `demo` with one order. */
export class RealServer {
  private process: ChildProcess | undefined;

  private constructor(
    readonly url: string,
    readonly directory: string,
    private readonly program: string,
    private readonly command: string[],
  ) {}

  static async start(kind: string): Promise<RealServer> {
    const program = process.env["ANABRANCH_BIN"];
    if (!program) {
      throw new Error("say in ANABRANCH_BIN which program to test against");
    }
    const address = `127.0.0.1:${await freePort()}`;
    const directory = mkdtempSync(join(tmpdir(), "anabranch-client-"));
    const command = [kind, "--log", join(directory, "log"), "--listen", address];
    if (kind === "demo") {
      const orders = join(CLIENTS, "conformance/orders.csv");
      command.push("--keep", "--provider", "reliable", "--orders", orders);
    }
    const server = new RealServer(`http://${address}`, directory, program, command);
    await server.begin();
    return server;
  }

  /** Kills it, as `kill -9` does, and starts it on the same log and port. */
  async restart(): Promise<void> {
    await this.kill();
    await this.begin();
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async begin(): Promise<void> {
    const output = openSync(join(this.directory, "output"), "a");
    // It takes settings from what begins with ANABRANCH_, and this is none.
    const { ANABRANCH_BIN: _, ...env } = process.env;
    const child = spawn(this.program, this.command, { env, stdio: ["ignore", output, output] });
    closeSync(output);
    this.process = child;
    for (let attempt = 0; attempt < 60 && child.exitCode === null; attempt += 1) {
      try {
        await open(this.url, { timeoutMs: 1_000 });
        return;
      } catch (error) {
        if (!(error instanceof Unreachable)) {
          throw error;
        }
      }
    }
    throw new Error(`the server did not start: ${readFileSync(join(this.directory, "output"), "utf8")}`);
  }

  private async kill(): Promise<void> {
    const child = this.process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      return;
    }
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }
}
