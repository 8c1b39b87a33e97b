/** Single look-ups, batches and errors, against the built service and a server of the test. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import { create } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { ContactError, Reason } from "@hypersender-grpc/contact";
import {
  BatchGetProfilePicturesResponseSchema,
  type GetProfilePictureRequest,
  GetProfilePictureResponseSchema,
} from "@hypersender-grpc/contact/v1";

import { failure, fake, open, PATIENCE, sandbox, serve, until } from "./harness.js";

const PRESENT = "15551230001";
const NO_PICTURE = "15551230004";
const NO_ACCOUNT = "15551230006";
const SILENT = "15551230012";

test("one contact", async (t) => {
  const { address } = await serve(t);
  const client = open(t, { target: address });
  const picture = await client.getProfilePicture(PRESENT);
  assert.ok(picture);
  assert.match(picture.url, /^http/);
  assert.equal(picture.chatId, PRESENT);
  assert.ok(picture.expireTime && picture.expireTime > new Date());
  assert.ok(picture.fetchTime && picture.fetchTime <= new Date());
  assert.match(picture.fingerprint, /^[\w.-]+$/);
  assert.equal(picture.stale, false);
  assert.equal(await client.getProfilePicture(NO_PICTURE), undefined);
});

test("links and chat ids do not reach logs", async (t) => {
  const { address } = await serve(t);
  const client = open(t, { target: address, token: "a-secret-token" });
  const [present, unchanged] = await client.batchGetProfilePictures([PRESENT, "abc"]);
  assert.ok(present?.picture && unchanged);
  for (const value of [present, present.picture, unchanged, client]) {
    for (const text of [inspect(value, { depth: 9 }), String(value), inspect([value])]) {
      for (const secret of [PRESENT, "abc", present.picture.url, "a-secret-token"])
        assert.ok(!text.includes(secret), text);
    }
  }
  const json = JSON.stringify([present, present.picture]);
  assert.ok(!json.includes(present.picture.url) && json.includes(present.picture.fingerprint));
});

test("a batch has a result for each id, in the order of the request", async (t) => {
  const { address } = await serve(t);
  const client = open(t, { target: address });
  const ids = [NO_ACCOUNT, PRESENT, "abc", NO_PICTURE, PRESENT];
  const results = await client.batchGetProfilePictures(ids);
  assert.deepEqual(
    results.map(({ index }) => index),
    [0, 1, 2, 3, 4],
  );
  assert.deepEqual(
    results.map(({ chatId }) => chatId),
    ids,
  );
  assert.deepEqual(
    results.map(({ outcome }) => outcome),
    ["failed", "present", "failed", "absent", "present"],
  );
  assert.deepEqual(
    results.map(({ error }) => error?.reason),
    [Reason.NOT_ON_WHATSAPP, undefined, Reason.CHAT_ID_INVALID, undefined, undefined],
  );
  const [failed, present, , absent] = results;
  assert.match(present?.picture?.url ?? "", /^http/);
  assert.ok(absent?.fetchTime && present?.fetchTime && !failed?.fetchTime);
  const tooMany = await failure(client.batchGetProfilePictures(Array(101).fill(PRESENT)));
  assert.ok(tooMany instanceof ContactError && tooMany.reason === Reason.BATCH_SIZE_INVALID);
  assert.equal(tooMany.field, "chat_ids");
});

test("fingerprints that are known, and pictures that have changed", async (t) => {
  const { environment, order } = await sandbox(t);
  const { address } = await serve(t, { environment, flags: ["--refresh-floor", "0s"] });
  const client = open(t, { target: address });
  const ids = [PRESENT, "15551230005"];
  const first = await client.batchGetProfilePictures(ids);
  // Fingerprints of contacts that are not asked for are not sent: the service would refuse so many.
  const known = new Map(Array.from({ length: 200 }, (_, index) => [`1555999${index}`, "other"]));
  for (const { chatId, picture } of first) known.set(chatId, picture?.fingerprint ?? "");
  const outcomes = async (knownFingerprints: ReadonlyMap<string, string> | Record<string, string>) => {
    const results = await client.batchGetProfilePictures(ids, { knownFingerprints, maxAgeMs: 0 });
    return results.map(({ outcome }) => outcome);
  };
  assert.deepEqual(await outcomes(known), ["unchanged", "unchanged"]);
  await order("POST", "changes", { chat_ids: [PRESENT] });
  assert.deepEqual(await outcomes(Object.fromEntries(known)), ["present", "unchanged"]);
});

test("only what is cached", async (t) => {
  const { address } = await serve(t);
  const client = open(t, { target: address });
  const error = await failure(client.getProfilePicture(PRESENT, { onlyIfCached: true }));
  assert.ok(error instanceof ContactError);
  assert.equal(error.reason, Reason.NOT_CACHED);
  assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
  await client.getProfilePicture(PRESENT);
  assert.ok(await client.getProfilePicture(PRESENT, { onlyIfCached: true }));
  const negative = await failure(client.getProfilePicture(PRESENT, { minFreshMs: -1 }));
  assert.ok(negative instanceof ContactError && negative.reason === Reason.CACHE_CONTROL_INVALID);
  assert.equal(negative.field, "cache_control.min_fresh");
});

test("typed errors of every number of the sandbox", async (t) => {
  const { address } = await serve(t);
  const client = open(t, { target: address });
  const cases: [chatId: string, reason: Reason, code: grpc.status, wait: boolean][] = [
    ["abc", Reason.CHAT_ID_INVALID, grpc.status.INVALID_ARGUMENT, false],
    [NO_ACCOUNT, Reason.NOT_ON_WHATSAPP, grpc.status.NOT_FOUND, false],
    ["15551230007", Reason.UPSTREAM_CREDENTIALS_REJECTED, grpc.status.FAILED_PRECONDITION, false],
    ["15551230010", Reason.UPSTREAM_UNAVAILABLE, grpc.status.UNAVAILABLE, true],
    ["15551230013", Reason.UPSTREAM_RESPONSE_INVALID, grpc.status.INTERNAL, false],
    ["15551230014", Reason.UPSTREAM_QUEUED, grpc.status.UNAVAILABLE, true],
    ["15551230015", Reason.INSTANCE_NOT_CONNECTED, grpc.status.FAILED_PRECONDITION, false],
    [SILENT, Reason.DEADLINE_EXCEEDED, grpc.status.DEADLINE_EXCEEDED, false],
    ["15551230008", Reason.UPSTREAM_RATE_LIMITED, grpc.status.RESOURCE_EXHAUSTED, true],
    // The instance pauses after that answer.
    ["15551230002", Reason.RATE_LIMITED, grpc.status.RESOURCE_EXHAUSTED, true],
  ];
  for (const [index, [chatId, reason, code, wait]] of cases.entries()) {
    // Rejected credentials and limits stop the whole instance.
    const instance = reason === Reason.RATE_LIMITED ? "instance-8" : `instance-${index}`;
    const error = await failure(client.getProfilePicture(chatId, { instance, timeoutMs: 2_000 }));
    assert.ok(error instanceof ContactError, reason);
    assert.deepEqual(
      [error.reason, error.code, error.retryAfterMs !== undefined],
      [reason, code, wait],
      error.message,
    );
    assert.equal(error.retryable, wait || code === grpc.status.DEADLINE_EXCEEDED);
    assert.equal((error.cause as grpc.ServiceError).code, code);
    assert.match(error.stack ?? "", /calls\.test/);
  }
  const instance = await failure(client.getProfilePicture(PRESENT, { instance: "not a name" }));
  assert.ok(instance instanceof ContactError && instance.reason === Reason.INSTANCE_INVALID);
  const large = await failure(client.getProfilePicture("1".repeat(20_000)));
  assert.ok(large instanceof ContactError && large.reason === Reason.MESSAGE_TOO_LARGE && !large.retryable);
});

test("deadlines", async (t) => {
  const { address } = await serve(t);
  const client = open(t, { target: address, timeoutMs: 300 });
  for (const options of [{}, { timeoutMs: 200 }, { signal: AbortSignal.timeout(200) }]) {
    const error = await failure(client.getProfilePicture(SILENT, options));
    assert.ok(
      error instanceof ContactError && error.code === grpc.status.DEADLINE_EXCEEDED && error.retryable,
    );
  }
  const never = () => new Promise<string>(() => {});
  const error = await failure(client.getProfilePicture(PRESENT, { token: never, timeoutMs: 100 }));
  assert.ok(error instanceof ContactError && error.code === grpc.status.DEADLINE_EXCEEDED);
});

test("what the service receives", async (t) => {
  const seen: { request: GetProfilePictureRequest; metadata: grpc.Metadata; left: number }[] = [];
  const address = await fake(t, {
    getProfilePicture: (
      call: grpc.ServerUnaryCall<GetProfilePictureRequest, unknown>,
      done: grpc.sendUnaryData<unknown>,
    ) => {
      seen.push({
        request: call.request,
        metadata: call.metadata,
        left: Number(call.getDeadline()) - Date.now(),
      });
      done(null, create(GetProfilePictureResponseSchema, { profilePicture: { state: 1 } }));
    },
  });
  let asked = 0;
  const token = async () => `token-${++asked}\n`;
  const client = open(t, { target: address, instance: "one", token, userAgent: "shop/1.2" });
  await client.getProfilePicture(PRESENT);
  await client.getProfilePicture(PRESENT, {
    instance: "two",
    token: " other ",
    maxAgeMs: 1500,
    staleIfErrorMs: 0,
    timeoutMs: 60_000,
  });
  const [first, second] = seen;
  assert.ok(first && second);
  assert.match(
    String(first.metadata.get("user-agent")[0]),
    /^hypersender-contact-node\/0\.1\.0 shop\/1\.2 grpc-node-js\//,
  );
  assert.deepEqual(first.metadata.get("authorization"), ["Bearer token-1"]);
  assert.deepEqual(
    [first.request.chatId, first.request.instance, first.request.cacheControl],
    [PRESENT, "one", undefined],
  );
  assert.ok(first.left > 0 && first.left <= 5_000);
  assert.deepEqual(second.metadata.get("authorization"), ["Bearer other"]);
  assert.equal(second.request.instance, "two");
  assert.deepEqual(
    [second.request.cacheControl?.maxAge?.seconds, second.request.cacheControl?.maxAge?.nanos],
    [1n, 500_000_000],
  );
  assert.deepEqual(
    [second.request.cacheControl?.staleIfError?.seconds, second.request.cacheControl?.minFresh],
    [0n, undefined],
  );
  // The service config has the longest time that the service gives a call.
  assert.ok(second.left > 20_000 && second.left <= 30_000);
});

test("a pushback is obeyed", async (t) => {
  for (const [pushback, tries] of [
    ["700", 2],
    ["-1", 1],
  ] as const) {
    const times: number[] = [];
    const address = await fake(t, {
      getProfilePicture: (_call: unknown, done: grpc.sendUnaryData<unknown>) => {
        times.push(performance.now());
        if (times.length > 1)
          return done(null, create(GetProfilePictureResponseSchema, { profilePicture: { state: 2 } }));
        const metadata = new grpc.Metadata();
        metadata.set("grpc-retry-pushback-ms", pushback);
        done({ code: grpc.status.UNAVAILABLE, details: "later", metadata });
      },
    });
    const call = open(t, { target: address }).getProfilePicture(PRESENT);
    if (tries === 2) assert.equal(await call, undefined);
    else assert.equal(((await failure(call)) as ContactError).code, grpc.status.UNAVAILABLE);
    assert.equal(times.length, tries);
    // The first back-off of the service config is 200 ms at most.
    if (tries === 2) assert.ok((times[1] as number) - (times[0] as number) >= 650);
  }
});

test("what a newer service sends is not taken for something else", async (t) => {
  const address = await fake(t, {
    getProfilePicture: (_call: unknown, done: grpc.sendUnaryData<unknown>) =>
      done(null, create(GetProfilePictureResponseSchema, { profilePicture: { state: 7 as 1 } })),
    batchGetProfilePictures: (_call: unknown, done: grpc.sendUnaryData<unknown>) =>
      done(
        null,
        create(BatchGetProfilePicturesResponseSchema, {
          results: [{}, { outcome: { case: "profilePicture", value: { state: 7 as 1 } } }],
        }),
      ),
  });
  const client = open(t, { target: address });
  const [one, two] = await client.batchGetProfilePictures(["1", "2"]);
  const few = await failure(client.batchGetProfilePictures(["1", "2", "3"]));
  for (const error of [await failure(client.getProfilePicture("1")), one?.error, two?.error, few]) {
    assert.ok(error instanceof ContactError && error.code === grpc.status.UNKNOWN);
    assert.match(error.message, /update the package/);
  }
});

test("a batch needs a result for each contact, and a time that Date lacks is none", async (t) => {
  const expireTime = { seconds: 2n ** 60n };
  const outcome = { case: "profilePicture" as const, value: { state: 1, expireTime } };
  const address = await fake(t, {
    batchGetProfilePictures: (_call: unknown, done: grpc.sendUnaryData<unknown>) =>
      done(null, create(BatchGetProfilePicturesResponseSchema, { results: [{ outcome }, { outcome }] })),
  });
  const client = open(t, { target: address });
  const [one] = await client.batchGetProfilePictures(["1", "2"]);
  assert.ok(one?.outcome === "present" && one.picture.expireTime === undefined);
  for (const ids of [["1"], ["1", "2", "3"]]) {
    const error = await failure(client.batchGetProfilePictures(ids));
    assert.ok(error instanceof ContactError && error.code === grpc.status.UNKNOWN);
    assert.match(error.message, /update the package/);
  }
});

test("arguments that cannot be sent are refused before the call", async (t) => {
  const client = open(t, { target: "localhost:1" });
  const lone = "secret \ud800";
  const refused: [unknown, RegExp][] = [
    [() => client.getProfilePicture(lone), /^chat_id is not valid Unicode$/],
    [() => client.getProfilePicture(15551230001 as unknown as string), /^chat_id is not a string$/],
    [() => client.batchGetProfilePictures(["1", "2", "3", lone]), /^chat_ids\[3\] is not valid Unicode$/],
    [() => client.batchGetProfilePictures("15551230001" as unknown as string[]), /^chatIds must be an array/],
    [
      () => client.batchGetProfilePictures(["1"], { knownFingerprints: { 1: lone } }),
      /^known_fingerprints of chat_ids\[0\]/,
    ],
    [() => client.getProfilePicture("1", { instance: lone }), /^instance is not valid Unicode$/],
    [() => client.getProfilePicture("1", { timeoutMs: 0 }), /^timeoutMs must be/],
    [() => client.getProfilePicture("1", { maxAgeMs: Number.NaN }), /^maxAgeMs must be/],
    [async () => client.streamProfilePictures(["1", lone]), /^chat_ids\[1\] is not valid Unicode$/],
    [async () => client.streamProfilePictures(["1"], { timeoutMs: -5 }), /^timeoutMs must be/],
  ];
  for (const [call, message] of refused)
    await assert.rejects(call as () => Promise<unknown>, { name: "TypeError", message });
});

test("a signal or close() ends calls", async (t) => {
  let cancelled = 0;
  const address = await fake(t, {
    getProfilePicture: (call: grpc.ServerUnaryCall<unknown, unknown>) =>
      call.on("cancelled", () => (cancelled += 1)),
  });
  const client = open(t, { target: address });
  const reason = new Error("left the page");
  const controller = new AbortController();
  const call = failure(client.getProfilePicture(PRESENT, { signal: controller.signal, timeoutMs: PATIENCE }));
  await client.grpc.waitForReady(Date.now() + PATIENCE, () => controller.abort(reason));
  const error = await call;
  assert.ok(error instanceof ContactError && error.code === grpc.status.CANCELLED && error.cause === reason);
  await assert.rejects(client.getProfilePicture(PRESENT, { signal: controller.signal }), {
    code: grpc.status.CANCELLED,
  });
  const calls = [1, 2, 3].map(() => failure(client.getProfilePicture(PRESENT, { timeoutMs: PATIENCE })));
  await new Promise((resolve) => setImmediate(resolve));
  await client[Symbol.asyncDispose]();
  for (const ended of await Promise.all(calls)) {
    assert.ok(ended instanceof ContactError && ended.code === grpc.status.CANCELLED);
    assert.match(ended.message, /the client is closed/);
  }
  await assert.rejects(client.getProfilePicture(PRESENT), { code: grpc.status.CANCELLED });
  await until("the calls of the server end", () => cancelled >= 1);
});
