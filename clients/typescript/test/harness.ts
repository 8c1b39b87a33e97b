/** Starts the built service, its stand-in for the REST API, servers that fail on purpose, and relays. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";

import * as grpc from "@grpc/grpc-js";
import {
  type ContactClient,
  type ContactClientOptions,
  createContactClient,
} from "@hypersender-grpc/contact";
import { ContactServiceDefinition } from "@hypersender-grpc/contact/v1";

/**
 * Milliseconds; far above what a start, a call or a stop takes, so that only something that hangs reaches it.
 */
export const PATIENCE = 30_000;

/**
 * The root of the repository. The tests run in the directory of the package, or far below with other
 * versions.
 */
export const repository = process.env["REPOSITORY"] ?? "../..";

function binary(): string {
  const path = process.env["HYPERSENDER_GRPC_BIN"] ?? "";
  if (!existsSync(path))
    throw new Error("HYPERSENDER_GRPC_BIN must name the built server: see `make test-typescript`");
  return path;
}

/** A client that the end of the test closes. */
export function open(t: TestContext, options: ContactClientOptions): ContactClient {
  const client = createContactClient(options);
  t.after(() => client.close());
  return client;
}

/** A directory that the end of the test removes. */
export function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "contact-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A process whose lines say that it is ready. */
async function start<Ready>(
  t: TestContext,
  args: string[],
  environment: Record<string, string>,
  output: "stdout" | "stderr",
  ready: (line: string) => Ready | undefined,
): Promise<{ child: ChildProcess; ready: Ready; stop(signal?: NodeJS.Signals): Promise<void> }> {
  // The settings of whoever runs the test must not reach the server.
  const child = spawn(binary(), args, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = (signal: NodeJS.Signals = "SIGTERM") => {
    child.kill(signal);
    return exited;
  };
  t.after(() => stop("SIGKILL"));
  const other = output === "stdout" ? child.stderr : child.stdout;
  other.resume();
  const lines: string[] = [];
  const found = await new Promise<Ready>((resolve, reject) => {
    createInterface({ input: child[output] }).on("line", (line) => {
      lines.push(line);
      const value = ready(line);
      if (value !== undefined) resolve(value);
    });
    exited.then(() => reject(new Error(`the process ended before it was ready:\n${lines.join("\n")}`)));
  });
  return { child, ready: found, stop };
}

/** The service. By default it has a sandbox of its own. */
export async function serve(
  t: TestContext,
  { flags = [] as string[], listen = "127.0.0.1:0", environment }: Serving = {},
): Promise<{ address: string; stop(signal?: NodeJS.Signals): Promise<void> }> {
  const args = ["serve", "--listen", listen, "--admin-listen", "off", "--log-format", "json", ...flags];
  if (!environment) args.push("--sandbox");
  const server = await start(t, args, environment ?? {}, "stderr", (line) => {
    const entry = line.startsWith("{") ? JSON.parse(line) : {};
    return entry.message === "listening" ? (entry.address as string) : undefined;
  });
  return { address: server.ready, stop: server.stop };
}

export interface Serving {
  flags?: string[];
  listen?: string;
  /** Settings in place of a sandbox of its own. */
  environment?: Record<string, string>;
}

/** The stand-in for the REST API as a process of its own, for replicas that share it. */
export async function sandbox(t: TestContext) {
  const environment: Record<string, string> = {};
  await start(t, ["sandbox", "--listen", "127.0.0.1:0"], {}, "stdout", (line) => {
    const [, name, value] = /^(HYPERSENDER_\w+)=(.+)$/.exec(line) ?? [];
    if (name && value) environment[name] = value;
    return Object.keys(environment).length === 3 ? true : undefined;
  });
  const root = environment["HYPERSENDER_WHATSAPP_BASE_URL"]?.replace("/api/whatsapp/v2", "");
  /** Calls its control; see `hypersender-grpc sandbox --help`. */
  const order = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${root}/_sandbox/${path}`, {
      method,
      ...(body && { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(await response.text());
    return response.text();
  };
  return { environment, order };
}

/** A gRPC server whose methods are functions of the test. */
export async function fake(
  t: TestContext,
  methods: Partial<grpc.UntypedServiceImplementation>,
  credentials: grpc.ServerCredentials = grpc.ServerCredentials.createInsecure(),
): Promise<string> {
  const server = new grpc.Server();
  server.addService(
    ContactServiceDefinition as unknown as grpc.ServiceDefinition,
    methods as grpc.UntypedServiceImplementation,
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  t.after(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

/** Forwards connections to `target`, and can break or silence them. */
export async function relay(t: TestContext, target: string) {
  const [host, port] = target.split(":") as [string, string];
  const open = new Set<Socket>();
  const state = { accepted: 0, carried: 0 };
  const server = createServer((near) => {
    state.accepted += 1;
    const far = connect(Number(port), host);
    for (const socket of [near, far]) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    far.on("data", (bytes) => (state.carried += bytes.length));
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  /** Ends the open connections. */
  const cut = () => {
    for (const socket of open) socket.destroy();
  };
  /** Discards the bytes of the open connections from now on, like a NAT that forgot them. */
  const swallow = () => {
    for (const socket of open) {
      socket.unpipe();
      socket.resume();
    }
  };
  t.after(() => {
    cut();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as { port: number }).port}`, state, cut, swallow };
}

/** Waits for a condition that nothing announces. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What a promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("the call did not fail");
    },
    (error: unknown) => error,
  );
}
