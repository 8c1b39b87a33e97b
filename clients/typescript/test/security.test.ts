/** TLS and tokens. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import * as grpc from "@grpc/grpc-js";
import { ContactError, createContactClient, Reason } from "@hypersender-grpc/contact";

import { selfSigned } from "./certificate.js";
import { directory, failure, open, PATIENCE, relay, serve } from "./harness.js";

const PRESENT = "15551230001";
const SILENT = "15551230012";
const SECRET = "a-secret-token";

/** A service with TLS, and a callers file that knows one token and allows four streams at a time. */
async function secured(t: TestContext, more: (cert: string) => string[] = () => []) {
  const files = directory(t);
  const { cert, key } = selfSigned();
  const path = (name: string, text: string) => {
    writeFileSync(join(files, name), text, { mode: 0o600 });
    return join(files, name);
  };
  const digest = createHash("sha256").update(SECRET).digest("hex");
  const callers = `[callers.shop]\ntoken_sha256 = "${digest}"\ninstances = ["*"]\n`;
  const { address } = await serve(t, {
    flags: [
      "--tls-cert",
      path("cert.pem", cert),
      "--tls-key",
      path("key.pem", key),
      "--callers-file",
      path("callers.toml", callers),
      ...more(path("ca.pem", cert)),
    ],
  });
  return { address, ca: Buffer.from(cert), cert, key, port: address.split(":")[1] };
}

test("TLS with an authority of one's own, and a token", async (t) => {
  const { port, ca } = await secured(t);
  const target = `localhost:${port}`;
  assert.ok(await open(t, { target, tls: ca, token: `${SECRET}\n` }).getProfilePicture(PRESENT));
  assert.ok(
    await open(t, {
      target,
      tls: grpc.credentials.createSsl(ca),
      token: async () => SECRET,
    }).getProfilePicture(PRESENT),
  );
  const client = open(t, { target, tls: ca });
  assert.ok(await client.getProfilePicture(PRESENT, { token: SECRET }));
  for (const options of [{}, { token: "another-token" }]) {
    const error = await failure(client.getProfilePicture(PRESENT, options));
    assert.ok(error instanceof ContactError);
    assert.deepEqual([error.reason, error.code], [Reason.CALLER_UNKNOWN, grpc.status.UNAUTHENTICATED]);
    assert.ok(!String(error.stack).includes("another-token"));
  }
});

test("a loop that is left frees the stream of the service", async (t) => {
  const { port, ca } = await secured(t);
  const client = open(t, { target: `localhost:${port}`, tls: ca, token: SECRET });
  // A caller may have four streams.
  for (let time = 0; time < 9; time += 1) {
    const onBroken = (error: ContactError) => assert.fail(error);
    for await (const { index } of client.streamProfilePictures([PRESENT, SILENT], { onBroken })) {
      assert.equal(index, 0);
      break;
    }
  }
});

test("an error says what to change when one side speaks TLS and the other does not", async (t) => {
  const { address, ca } = await secured(t);
  const plain = await serve(t);
  const cases: [target: string, tls: boolean | undefined | Uint8Array, message: RegExp][] = [
    [plain.address, true, /probably does not speak TLS: see the option tls: false/],
    // By default TLS, because the address is not loopback.
    [
      `0.0.0.0:${plain.address.split(":")[1]}`,
      undefined,
      /probably does not speak TLS: see the option tls: false/,
    ],
    [address, undefined, /probably speaks TLS: see the option tls: true/],
    [address, true, /certificate is not trusted: give its authority/],
  ];
  for (const [target, tls, message] of cases) {
    const client = open(t, { target, tls });
    const begin = performance.now();
    const single = failure(client.getProfilePicture(PRESENT, { timeoutMs: PATIENCE }));
    let broken = 0;
    const onBroken = () => {
      broken += 1;
    };
    const stream = client.streamProfilePictures([PRESENT], { onBroken });
    for (const error of [await single, await failure(stream.next())]) {
      assert.ok(error instanceof ContactError && error.code === grpc.status.UNAVAILABLE);
      assert.match(error.message, message);
    }
    // A restart of the server can look the same, so that the stream gives up at the third call.
    assert.equal(broken, 2);
    assert.ok(performance.now() - begin < PATIENCE / 2);
  }
  assert.throws(() => open(t, { target: address, tls: "yes" as unknown as boolean }), {
    name: "TypeError",
    message: /^tls must/,
  });
  assert.ok(ca);
});

test("an error says that the service asks for a client certificate, or has another name", async (t) => {
  const { address: target, ca, cert, key } = await secured(t, (cert) => ["--tls-client-ca", cert]);
  // The certificate of an authority is none of a client.
  const unsuitable = grpc.credentials.createSsl(ca, Buffer.from(key), Buffer.from(cert));
  const channelOptions = { "grpc.ssl_target_name_override": "contacts.example" };
  for (const [options, message] of [
    [{ tls: ca }, /asks for a client certificate that it accepts/],
    [{ tls: unsuitable }, /asks for a client certificate that it accepts/],
    [{ tls: ca, channelOptions }, /another name than the host of the target/],
  ] as const) {
    const client = open(t, { target, token: SECRET, ...options });
    const error = await failure(client.getProfilePicture(PRESENT, { timeoutMs: PATIENCE }));
    assert.ok(error instanceof ContactError && error.code === grpc.status.UNAVAILABLE);
    assert.match(error.message, message);
  }
});

test("a token does not cross a network in plain text", async (t) => {
  const { address } = await serve(t);
  const remote = `0.0.0.0:${address.split(":")[1]}`;
  const refused = { name: "TypeError", message: /plain text: see allowTokenInPlainText/ };
  for (const token of [SECRET, () => SECRET]) {
    const options = { target: remote, tls: false, token };
    assert.throws(() => createContactClient(options), refused);
    const client = open(t, { target: remote, tls: false });
    await assert.rejects(client.getProfilePicture(PRESENT, { token }), refused);
    await assert.rejects(client.batchGetProfilePictures([PRESENT], { token }), refused);
    assert.throws(() => client.streamProfilePictures([PRESENT], { token }), refused);
    assert.ok(await open(t, { ...options, allowTokenInPlainText: true }).getProfilePicture(PRESENT));
    assert.ok(await open(t, { ...options, target: address }).getProfilePicture(PRESENT));
  }
  createContactClient({ target: remote, token: SECRET }).close();
});

test("nothing of a refused call is sent", async (t) => {
  const { address } = await serve(t);
  const { address: target, state } = await relay(t, address);
  const client = open(t, { target: target.replace("127.0.0.1", "0.0.0.0"), tls: false });
  await failure(client.getProfilePicture(PRESENT, { token: SECRET }));
  await failure(client.getProfilePicture(PRESENT, { token: "" }));
  assert.equal(state.accepted, 0);
});

test("a token that cannot be one is refused without showing it", async (t) => {
  const client = open(t, { target: "localhost:1" });
  for (const token of ["", " \n", "sec ret", "secr\u00e9t", "sec\nret", 5 as unknown as string]) {
    const refused = (error: unknown) =>
      error instanceof TypeError && /^token /.test(error.message) && !/sec/.test(error.message);
    assert.throws(() => createContactClient({ target: "localhost:1", token }), refused);
    await assert.rejects(client.getProfilePicture(PRESENT, { token }), refused);
    await assert.rejects(client.getProfilePicture(PRESENT, { token: async () => token }), refused);
  }
});
