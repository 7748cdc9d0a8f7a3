// A server that does with each request what a case says, good or bad.

import { type Server, type Socket, createServer } from "node:net";

import { type Json, composeJson, parseJson } from "../src/index.js";

const LOG = "aaaaaaaaaaaaaaaa";

const DRIP_EVERY_MS = 20;
/** Whoever is patient for so long has failed its case. */
const DRIP_MOST_MS = 30_000;

/** What is done with a request. */
export interface Scripted {
  status?: number;
  headers?: Record<string, string>;
  json?: Json;
  text?: string;
  repeat?: { text: string; times: number };
  cut?: number;
  envelopes?: { json?: Json; text?: string; flags?: number; length?: number }[];
  then?: "hang" | "end";
  raw?: string;
  drip?: string;
  close?: true;
  hang?: true;
  endless?: true;
}

/** A request as it came. */
export class Request {
  readonly path: string;
  readonly headers = new Map<string, string>();

  constructor(
    head: string,
    public body: Buffer,
  ) {
    const [first = "", ...lines] = head.split("\r\n");
    this.path = first.split(" ")[1] ?? "";
    for (const line of lines) {
      const colon = line.indexOf(":");
      this.headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    }
  }

  /** Its body; that of a call with messages is in an envelope. */
  json(): Json {
    const isStream = this.headers.get("content-type") === "application/connect+json";
    return parseJson((isStream ? this.body.subarray(5) : this.body).toString("utf8"));
  }
}

/** Answers as `answers` say, the last one for ever. */
export class ScriptedServer {
  readonly requests: Request[] = [];
  private readonly answers: Scripted[];
  private readonly versions: string[];
  private readonly sockets = new Set<Socket>();
  private readonly server: Server;
  url = "";

  private constructor(private readonly said: { answers?: Scripted[]; versions?: string[]; version?: Json }) {
    this.answers = [...(said.answers ?? [])];
    this.versions = [...(said.versions ?? [LOG])];
    this.server = createServer((socket) => this.accept(socket));
  }

  static async start(said: { answers?: Scripted[]; versions?: string[]; version?: Json }): Promise<ScriptedServer> {
    const made = new ScriptedServer(said);
    await new Promise<void>((resolve) => made.server.listen(0, "127.0.0.1", resolve));
    const address = made.server.address();
    if (address === null || typeof address === "string") {
      throw new Error("no port was given");
    }
    made.url = `http://127.0.0.1:${address.port}`;
    return made;
  }

  /** Ends it and its connections. */
  close(): void {
    this.server.close();
    this.sockets.forEach((socket) => socket.destroy());
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    let taken = Buffer.alloc(0);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("data", (chunk) => {
      taken = Buffer.concat([taken, chunk]);
      const end = taken.indexOf("\r\n\r\n");
      if (end < 0) {
        return;
      }
      const request = new Request(taken.subarray(0, end).toString("latin1"), taken.subarray(end + 4));
      if (request.body.length >= Number(request.headers.get("content-length") ?? 0)) {
        taken = Buffer.alloc(0);
        this.answer(socket, request);
      }
    });
  }

  private answer(socket: Socket, request: Request): void {
    if (request.path === "/version") {
      const log = next(this.versions);
      const version = this.said.version ?? { version: "0.1.0", protocol: 1, log };
      send(socket, { status: 200, json: version });
      return;
    }
    this.requests.push(request);
    send(socket, next(this.answers));
  }
}

/** The next one; the last one stays. */
function next<T>(all: T[]): T {
  const [first] = all.length > 1 ? all.splice(0, 1) : all;
  if (first === undefined) {
    throw new Error("the case says no answer");
  }
  return first;
}

function send(socket: Socket, answer: Scripted): void {
  if (answer.raw !== undefined && answer.drip !== undefined) {
    socket.write(answer.raw, "latin1");
    drip(socket, answer.drip);
  } else if (answer.raw !== undefined) {
    socket.end(answer.raw, "latin1");
  } else if (answer.endless) {
    socket.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
    const spaces = Buffer.alloc(65_536, " ");
    const more = (): void => {
      while (!socket.destroyed && socket.write(spaces)) {
        // On, until the other side has enough for now.
      }
    };
    socket.on("drain", more);
    more();
  } else if (answer.envelopes !== undefined) {
    sendStream(socket, answer, answer.envelopes);
  } else if (answer.status !== undefined) {
    sendWhole(socket, answer, answer.status);
  } else if (!answer.hang) {
    socket.destroy();
  }
}

/** A piece again and again, for as long as anybody listens. */
function drip(socket: Socket, piece: string): void {
  const timer = setInterval(() => socket.write(piece, "latin1"), DRIP_EVERY_MS);
  const most = setTimeout(() => socket.destroy(), DRIP_MOST_MS);
  socket.on("close", () => {
    clearInterval(timer);
    clearTimeout(most);
  });
}

function sendWhole(socket: Socket, answer: Scripted, status: number): void {
  const { repeat, cut = 0 } = answer;
  const body = repeat ? Buffer.from(repeat.text.repeat(repeat.times)) : textOf(answer);
  const headers = { "content-type": "application/json", ...answer.headers };
  socket.write(head(status, { ...headers, "content-length": String(body.length) }));
  socket.write(body.subarray(0, body.length - cut));
  if (cut > 0) {
    socket.end();
  }
}

function sendStream(socket: Socket, answer: Scripted, envelopes: NonNullable<Scripted["envelopes"]>): void {
  const parts = envelopes.flatMap((envelope) => {
    const content = textOf(envelope);
    const start = Buffer.alloc(5);
    start.writeUInt8(envelope.flags ?? 0);
    start.writeUInt32BE(envelope.length ?? content.length, 1);
    return [start, content];
  });
  const whole = Buffer.concat(parts);
  const { cut = 0 } = answer;
  const body = whole.subarray(0, whole.length - cut);
  socket.write(head(200, { "content-type": "application/connect+json", "transfer-encoding": "chunked" }));
  // A chunk of nothing would be the end.
  if (body.length > 0) {
    socket.write(`${body.length.toString(16)}\r\n`);
    socket.write(body);
    socket.write("\r\n");
  }
  if (answer.then !== "hang") {
    socket.end(cut > 0 && answer.then !== "end" ? "" : "0\r\n\r\n");
  }
}

function head(status: number, headers: Record<string, string>): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} Said\r\n${lines.join("")}\r\n`;
}

function textOf(part: { json?: Json; text?: string }): Buffer {
  return Buffer.from(part.json === undefined ? (part.text ?? "") : composeJson(part.json));
}
