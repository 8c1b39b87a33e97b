/** What a client does to the process that it is in. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { type TestContext, test } from "node:test";

import { fake, PATIENCE, serve } from "./harness.js";

/** Runs a program to its end, and returns what it prints. Unhandled rejections end it with an error. */
async function run(_t: TestContext, address: string, program: string, env = {}): Promise<string> {
  const whole = `
    import { createContactClient } from "@hypersender-grpc/contact";
    const client = createContactClient({ target: ${JSON.stringify(address)} });
    ${program}`;
  return new Promise((resolve, reject) => {
    const args = ["--input-type=module", "--eval", whole];
    execFile(
      process.execPath,
      args,
      { timeout: PATIENCE, env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        assert.equal(stderr, "");
        if (error) reject(error);
        else resolve(stdout.trim());
      },
    );
  });
}

test("an idle client does not keep the process alive", async (t) => {
  const { address } = await serve(t);
  const program = 'console.log((await client.getProfilePicture("15551230001")).stale);';
  assert.equal(await run(t, address, program), "false");
});

test("a proxy of the environment is not asked for this machine", async (t) => {
  const port = (await serve(t)).address.split(":")[1];
  // Nothing listens there.
  const proxy = { http_proxy: "http://127.0.0.1:9", https_proxy: "http://127.0.0.1:9", no_proxy: "" };
  for (const target of [`localhost:${port}`, `127.0.0.1:${port}`, `ipv4:127.0.0.1:${port}`]) {
    const program = 'console.log((await client.getProfilePicture("15551230001")).stale);';
    assert.equal(await run(t, target, program, { ...proxy, grpc_proxy: proxy.http_proxy }), "false");
  }
});

test("many calls at once print no warning", async (t) => {
  const { address } = await serve(t);
  const program = `
    const { signal } = new AbortController();
    const call = (_, index) => client.getProfilePicture("15551230001", index % 2 ? { signal } : {});
    console.log((await Promise.all(Array.from({ length: 50 }, call))).length);`;
  assert.equal(await run(t, address, program), "50");
});

test("a call in progress keeps the process alive", async (t) => {
  const address = await fake(t, {
    getProfilePicture: (_call: unknown, done: (error: Error) => void) =>
      void setTimeout(() => done(new Error("late")), 500),
  });
  assert.equal(
    await run(t, address, 'client.getProfilePicture("1").catch((error) => console.log(error.codeName));'),
    "UNKNOWN",
  );
});

test("close() in the middle of everything leaves no rejection that nobody handles", async (t) => {
  const { address } = await serve(t);
  const program = `
    const ended = [];
    const note = (error) => ended.push(error.codeName);
    let fail;
    const token = () => new Promise((_, reject) => (fail = reject));
    const reads = (async () => {
      for await (const _ of client.streamProfilePictures(["15551230001", "15551230012"])) client.close();
    })();
    await Promise.all([
      client.getProfilePicture("15551230012", { timeoutMs: 30_000 }).catch(note),
      client.batchGetProfilePictures(["15551230012"]).catch(note),
      client.getProfilePicture("15551230001", { token, timeoutMs: 30_000 }).catch(note),
      reads.catch(note),
    ]);
    client.close();
    fail(new Error("late"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    console.log(ended.join());`;
  assert.equal(await run(t, address, program), "CANCELLED,CANCELLED,CANCELLED,CANCELLED");
});
