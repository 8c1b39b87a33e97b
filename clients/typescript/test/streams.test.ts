/** Streams that break, against a server of the test that breaks them on purpose. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, DurationSchema } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { ContactError, Reason, type Result, type StreamOptions } from "@hypersender-grpc/contact";
import {
  ErrorInfoSchema,
  RetryInfoSchema,
  StatusSchema,
  type StreamProfilePicturesRequest,
  type StreamProfilePicturesResponse,
  StreamProfilePicturesResponseSchema,
} from "@hypersender-grpc/contact/v1";
import { Scope } from "../dist/scope.js";
import { resume } from "../dist/stream.js";
import { failure, fake, open, PATIENCE, until } from "./harness.js";

type Call = grpc.ServerWritableStream<StreamProfilePicturesRequest, StreamProfilePicturesResponse>;
type Answer = (call: Call) => void;

const message = (event: MessageInitShape<typeof StreamProfilePicturesResponseSchema>["event"]) =>
  create(StreamProfilePicturesResponseSchema, { event } as MessageInitShape<
    typeof StreamProfilePicturesResponseSchema
  >);

function result({ request }: Call, index: number) {
  const requestedChatId = request.chatIds[index] ?? "";
  return message({
    case: "result",
    value: { index, requestedChatId, outcome: { case: "unchanged", value: {} } },
  });
}

/** Sends a result for the first `number` ids, the last one first, and then ends the call. */
function results(number: number, end: Answer = (call) => call.end()): Answer {
  return (call) => {
    for (let index = Math.min(number, call.request.chatIds.length) - 1; index >= 0; index -= 1)
      call.write(result(call, index));
    end(call);
  };
}

/** Ends a call with an error. One with a reason is from the service, and may carry RetryInfo. */
function fails(
  code: grpc.status,
  { reason = "", waitMs = 0, domain = "hypersender-grpc", pushback = "" } = {},
): Answer {
  const metadata = new grpc.Metadata();
  const details = reason ? [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain }))] : [];
  if (waitMs) {
    const retryDelay = create(DurationSchema, { nanos: waitMs * 1e6 });
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  const status = create(StatusSchema, { code, message: "broken", details });
  if (reason) metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, status)));
  if (pushback) metadata.set("grpc-retry-pushback-ms", pushback);
  // After what was written: an error would otherwise overtake it.
  return (call) =>
    call.write(message({ case: "progress", value: {} }), () =>
      call.emit("error", { code, details: "broken", metadata }),
    );
}

/** A server whose call number n is answered by function n, and later ones by the last. */
async function breaker(t: TestContext, ...answers: Answer[]) {
  const asked: StreamProfilePicturesRequest[] = [];
  const calls: Call[] = [];
  const address = await fake(t, {
    streamProfilePictures: (call: Call) => {
      const answer = answers[Math.min(asked.length, answers.length - 1)] as Answer;
      asked.push(call.request);
      calls.push(call);
      answer(call);
    },
  });
  return { client: open(t, { target: address, instance: "one" }), asked, calls };
}

const numbers = (count: number) =>
  Array.from({ length: count }, (_, index) => String(15_552_000_000 + index));

/** Reads a stream to its end, and checks that no id has two results, nor that of another. */
async function collect(stream: AsyncIterable<Result>, chatIds: readonly string[]): Promise<number> {
  const seen = new Set<number>();
  for await (const { index, chatId } of stream) {
    assert.ok(!seen.has(index));
    assert.equal(chatId, chatIds[index]);
    seen.add(index);
  }
  return seen.size;
}

const { UNAVAILABLE, INTERNAL, CANCELLED, ABORTED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED } =
  grpc.status;
const again = fails(UNAVAILABLE, { reason: Reason.OVERLOADED, waitMs: 1 });

test("a broken stream is resumed", async (t) => {
  const twice: Answer = (call) => {
    call.write(result(call, 0));
    call.write(result(call, 0));
    call.end();
  };
  const cases: [name: string, first: Answer, missed: number][] = [
    ["the server stops", results(3, fails(UNAVAILABLE, { reason: Reason.SERVER_STOPPING, waitMs: 1 })), 7],
    ["the connection breaks", results(4, fails(UNAVAILABLE)), 6],
    ["a proxy resets the stream", results(4, fails(INTERNAL)), 6],
    ["a proxy cancels the stream", results(4, fails(CANCELLED)), 6],
    ["a proxy aborts the stream", results(4, fails(ABORTED)), 6],
    ["a proxy gives no trailers", results(4, fails(UNKNOWN)), 6],
    [
      "a proxy has reasons of its own",
      results(4, fails(INTERNAL, { reason: "LIMIT", domain: "proxy.example.com" })),
      6,
    ],
    ["the longest stream", results(9, fails(DEADLINE_EXCEEDED, { reason: Reason.DEADLINE_EXCEEDED })), 1],
    [
      "too many streams",
      results(0, fails(RESOURCE_EXHAUSTED, { reason: Reason.TOO_MANY_STREAMS, waitMs: 1 })),
      10,
    ],
    ["the stream ends early", results(5), 5],
    ["a result comes twice", twice, 9],
  ];
  for (const [name, first, missed] of cases) {
    await t.test(name, async (t) => {
      const { client, asked } = await breaker(t, first, results(10));
      const ids = numbers(10);
      const knownFingerprints = new Map(ids.map((chatId) => [chatId, `known of ${chatId}`]));
      const broken: [ContactError, number][] = [];
      const onBroken = (error: ContactError, waitMs: number) => broken.push([error, waitMs]);
      assert.equal(
        await collect(client.streamProfilePictures(ids, { knownFingerprints, onBroken }), ids),
        10,
      );
      assert.equal(asked.length, 2);
      const { chatIds = [], instance, knownFingerprints: known = {} } = asked[1] ?? {};
      assert.deepEqual([chatIds.length, instance], [missed, "one"]);
      assert.deepEqual(
        { ...known },
        Object.fromEntries(chatIds.map((chatId) => [chatId, `known of ${chatId}`])),
      );
      assert.equal(broken.length, 1);
      assert.ok(broken[0]?.[0] instanceof ContactError && broken[0][1] >= 0);
    });
  }
});

test("calls have at most 10,000 ids", async (t) => {
  const { client, asked } = await breaker(t, results(10_000));
  const ids = numbers(20_001);
  assert.equal(await collect(client.streamProfilePictures(ids), ids), 20_001);
  assert.deepEqual(
    asked.map(({ chatIds }) => chatIds.length),
    [10_000, 10_000, 1],
  );
});

test("no ids need no call", async (t) => {
  const { client, asked } = await breaker(t, again);
  assert.equal(await collect(client.streamProfilePictures([]), []), 0);
  assert.equal(asked.length, 0);
});

test("a stream gives up", async (t) => {
  const cases: [name: string, answer: Answer, calls: number, code: grpc.status][] = [
    [
      "the same call fails again",
      fails(grpc.status.FAILED_PRECONDITION, { reason: Reason.INSTANCE_NOT_CONNECTED }),
      1,
      9,
    ],
    ["a pushback of -1", fails(UNAVAILABLE, { pushback: "-1" }), 1, UNAVAILABLE],
    ["ten calls without a result", again, 10, UNAVAILABLE],
    ["a request that no proxy accepts", fails(grpc.status.UNAUTHENTICATED), 1, grpc.status.UNAUTHENTICATED],
  ];
  // The jitter would make ten calls take half a minute.
  t.mock.method(Math, "random", () => 0);
  for (const [name, answer, calls, code] of cases) {
    await t.test(name, async (t) => {
      const { client, asked } = await breaker(t, answer);
      const error = await failure(collect(client.streamProfilePictures(["1", "2"]), ["1", "2"]));
      assert.ok(error instanceof ContactError && error.code === code, String(error));
      assert.equal(asked.length, calls);
    });
  }
});

test("calls with results do not count towards giving up", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const { client, asked } = await breaker(t, results(1, again));
  const ids = numbers(15);
  assert.equal(await collect(client.streamProfilePictures(ids), ids), 15);
  assert.equal(asked.length, 15);
});

test("a pushback is obeyed", async (t) => {
  const times: number[] = [];
  const note =
    (answer: Answer): Answer =>
    (call) => {
      times.push(performance.now());
      answer(call);
    };
  const { client } = await breaker(t, note(fails(UNAVAILABLE, { pushback: "1500" })), note(results(2)));
  assert.equal(await collect(client.streamProfilePictures(["1", "2"]), ["1", "2"]), 2);
  assert.ok((times[1] ?? 0) - (times[0] ?? 0) >= 1_450);
});

test("a token is asked for before each call, and may fail for a while", async (t) => {
  const seen: unknown[] = [];
  const note =
    (answer: Answer): Answer =>
    (call) => {
      seen.push(call.metadata.get("authorization")[0]);
      answer(call);
    };
  const { client } = await breaker(t, note(results(1, again)), note(results(2)));
  let asked = 0;
  const token = () => {
    asked += 1;
    if (asked === 2) throw new Error("the token service is down");
    return `token-${asked}`;
  };
  const broken: ContactError[] = [];
  const onBroken = (error: ContactError) => broken.push(error);
  assert.equal(await collect(client.streamProfilePictures(["1", "2"], { token, onBroken }), ["1", "2"]), 2);
  assert.deepEqual(seen, ["Bearer token-1", "Bearer token-3"]);
  assert.match(broken[1]?.message ?? "", /^UNAVAILABLE: the token provider failed$/);
});

test("progress is that of the whole request", async (t) => {
  const pausedUntil = new Date("2030-01-01T00:00:00Z");
  const reports: Answer = (call) => {
    call.write(result(call, 0));
    const seconds = BigInt(pausedUntil.getTime() / 1000);
    call.write(message({ case: "progress", value: { done: 1, total: 1, pausedUntil: { seconds } } }), () =>
      again(call),
    );
  };
  const { client } = await breaker(t, reports);
  const seen: unknown[] = [];
  const onProgress: StreamOptions["onProgress"] = (progress) => seen.push(progress);
  assert.equal(await collect(client.streamProfilePictures(["1", "2"], { onProgress }), ["1", "2"]), 2);
  const at = (done: number) => ({ done, failed: 0, total: 2, nextTurnTime: undefined, pausedUntil });
  assert.deepEqual(
    seen.filter((progress) => (progress as { pausedUntil?: Date }).pausedUntil),
    [at(1), at(2)],
  );
});

test("what a callback throws ends the stream", async (t) => {
  const { client, asked } = await breaker(t, results(1, again));
  const own = new ContactError(UNAVAILABLE, "thrown by the caller");
  for (const name of ["onProgress", "onBroken"]) {
    const options = {
      [name]: () => {
        throw own;
      },
    };
    assert.equal(await failure(collect(client.streamProfilePictures(["1", "2"], options), ["1", "2"])), own);
  }
  assert.equal(asked.length, 2);
});

test("silence counts as a broken call, and the time of the loop does not", async (t) => {
  const silent: Answer = (call) => call.write(result(call, 0));
  const { client, calls } = await breaker(t, silent, results(2));
  const explain = (error: unknown) => new ContactError(UNKNOWN, String(error));
  const start = async (chatIds: readonly string[]) =>
    client.grpc.streamProfilePictures({ chatIds: [...chatIds] });
  const broken: ContactError[] = [];
  const options = { onBroken: (error: ContactError) => broken.push(error) };
  const stream = resume({ start, explain, silenceMs: 2_000 }, ["1", "2"], new Scope(undefined), options);
  assert.equal((await stream.next()).value?.index, 0);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  assert.equal(calls.length, 1);
  assert.equal(calls[0]?.cancelled, false);
  assert.equal((await stream.next()).value?.index, 1);
  assert.match(broken[0]?.message ?? "", /sent nothing for 2 s/);
  assert.equal((await stream.next()).done, true);
});

test("leaving the loop, a signal, a deadline and close() end the call at once", async (t) => {
  const hangs: Answer = (call) => call.write(result(call, 0));
  const { client, calls } = await breaker(t, hangs);
  const ended = (number: number) =>
    until("the call of the server ends", () => calls[number - 1]?.cancelled === true);
  for await (const _ of client.streamProfilePictures(["1", "2"])) break;
  await ended(1);
  const controller = new AbortController();
  const ends: [StreamOptions, () => void, grpc.status][] = [
    [{ signal: controller.signal }, () => controller.abort(), CANCELLED],
    [{ timeoutMs: 300 }, () => {}, DEADLINE_EXCEEDED],
    [{}, () => client.close(), CANCELLED],
  ];
  for (const [number, [options, end, code]] of ends.entries()) {
    const stream = client.streamProfilePictures(["1", "2"], options);
    await stream.next();
    const next = failure(stream.next());
    end();
    const error = await next;
    assert.ok(error instanceof ContactError && error.code === code, String(error));
    assert.equal((await stream.next()).done, true);
    await ended(number + 2);
  }
});

test("a wait between calls ends with the signal, and a deadline leaves the true error", async (t) => {
  const { client } = await breaker(t, fails(UNAVAILABLE, { reason: Reason.OVERLOADED, waitMs: 900 }));
  const controller = new AbortController();
  const options = { signal: controller.signal, onBroken: () => setImmediate(() => controller.abort()) };
  const aborted = await failure(collect(client.streamProfilePictures(["1"], options), ["1"]));
  assert.ok(aborted instanceof ContactError && aborted.code === CANCELLED);
  const late = await failure(collect(client.streamProfilePictures(["1"], { timeoutMs: 850 }), ["1"]));
  assert.ok(late instanceof ContactError && late.reason === Reason.OVERLOADED, String(late));
});

test("a slow loop stops the server from sending", { timeout: PATIENCE }, async (t) => {
  let sent = 0;
  const pushes: Answer = async (call) => {
    const { chatIds } = call.request;
    for (let index = 0; index < chatIds.length && !call.cancelled; index += 1) {
      sent += 1;
      if (!call.write(result(call, index))) await new Promise((resolve) => call.once("drain", resolve));
    }
    call.end();
  };
  const { client } = await breaker(t, pushes);
  const ids = numbers(10_000).map((chatId) => `${chatId}${"0".repeat(100)}`);
  const stream = client.streamProfilePictures(ids);
  await stream.next();
  let before = -1;
  // The windows of HTTP/2 are full when nothing was sent for a while.
  await until("the server stops", () => {
    const still = sent === before;
    before = sent;
    return still;
  });
  assert.ok(sent < 5_000, String(sent));
  // Another call is not held up by that one.
  const one = client.streamProfilePictures(ids.slice(0, 1));
  assert.equal((await one.next()).value?.index, 0);
  await one.return();
  let rest = 0;
  for await (const _ of stream) rest += 1;
  assert.equal(rest, 9_999);
});
