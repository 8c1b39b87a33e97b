/** A stream that resumes: when a call breaks, the next one asks for the contacts that have no result. */

import { type ClientReadableStream, type ServiceError, status } from "@grpc/grpc-js";

import { ContactError, tlsFaults } from "./errors.js";
import type { StreamProfilePicturesResponse } from "./gen/hypersender/contact/v1/contact_service_pb.js";
import { date, type Results, toResult } from "./picture.js";
import type { StreamOptions } from "./request.js";
import type { Scope } from "./scope.js";

/** The number of chat ids that the service accepts in one call. */
const IDS_MAX = 10_000;
/** The number of calls in a row without any result after which a stream gives up. */
const ATTEMPTS = 10;
/** The same for a fault of TLS before the first result. */
const ATTEMPTS_TLS = 3;
/**
 * The milliseconds without a message after which a call counts as broken. The service sends one every 10 s.
 */
const SILENCE = 60_000;
/**
 * Milliseconds: the longest wait after the first failure, and the longest of all. Each failure in a row makes
 * it twice as long; the shortest wait is half of it. The waits between ten attempts are 61 to 121 s together.
 */
const BACKOFF_FIRST = 500;
const BACKOFF_LONGEST = 30_000;

/** The codes of errors that are not from the service: the connection broke, or a proxy ended the call. */
const BROKEN = /^(UNAVAILABLE|INTERNAL|UNKNOWN|CANCELLED|ABORTED|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED)$/;

/** How a stream makes its calls. */
export interface Calls {
  /** Starts a call for some of the chat ids. */
  start(chatIds: string[]): Promise<ClientReadableStream<StreamProfilePicturesResponse>>;
  /** The error of a call. */
  explain(error: unknown): ContactError;
  /** For tests; {@link SILENCE} by default. */
  silenceMs?: number;
}

/** Yields one result for each chat id, in any order. */
export async function* resume(
  calls: Calls,
  chatIds: readonly string[],
  scope: Scope,
  options: StreamOptions,
): Results {
  const total = chatIds.length;
  let missing = [...chatIds.keys()];
  let [failures, failed] = [0, 0];
  while (missing.length > 0) {
    const asked = missing.slice(0, IDS_MAX);
    const left = new Set(asked.keys());
    let broken: ContactError | undefined;
    const ids = asked.map((position) => chatIds[position] ?? "");
    for await (const event of messages(calls, ids, scope)) {
      const done = total - missing.length + asked.length - left.size;
      if (event instanceof ContactError) broken = event;
      else if (event.case === "progress") {
        const [nextTurnTime, pausedUntil] = [date(event.value.nextTurnTime), date(event.value.pausedUntil)];
        options.onProgress?.({ done, failed, total, nextTurnTime, pausedUntil });
      } else if (event.case === "result" && left.delete(event.value.index)) {
        const { index } = event.value;
        const result = toResult(asked[index] ?? 0, ids[index] ?? "", event.value);
        if (result.outcome === "failed") failed += 1;
        yield result;
      }
    }
    missing = [...asked.filter((_, index) => left.has(index)), ...missing.slice(asked.length)];
    failures = left.size === 0 ? 0 : left.size < asked.length ? 1 : failures + 1;
    if (failures === 0) continue;
    if (scope.ended) throw scope.ended;
    broken ??= new ContactError(status.UNAVAILABLE, "the stream ended before its last result");
    const wait = pause(broken, failures);
    // Without any result so far, a fault of TLS is rather a wrong option than a passing fault.
    const isTls = tlsFaults.has(broken) && missing.length === total;
    const hopeless = failures >= (isTls ? ATTEMPTS_TLS : ATTEMPTS);
    if (wait === undefined || hopeless || Date.now() + wait >= scope.deadline) throw broken;
    options.onBroken?.(broken, wait);
    await scope.sleep(wait);
  }
}

/** The messages of one call, and its error as the last one. The call ends when its reader leaves. */
async function* messages(
  { start, explain, silenceMs = SILENCE }: Calls,
  chatIds: string[],
  scope: Scope,
): AsyncGenerator<StreamProfilePicturesResponse["event"] | ContactError, void, undefined> {
  let cancel = () => {};
  let silent = false;
  try {
    const call = await start(chatIds);
    cancel = () => call.cancel();
    // The error that a cancelled call reports after its reader has left.
    call.on("error", () => {});
    scope.onEnd(cancel);
    const reader: AsyncIterator<StreamProfilePicturesResponse> = call[Symbol.asyncIterator]();
    for (;;) {
      // The time that the user takes for itself does not count. While it does not read, neither does the
      // call.
      const watchdog = setTimeout(() => {
        silent = true;
        cancel();
      }, silenceMs);
      const next = await reader.next().finally(() => clearTimeout(watchdog));
      if (next.done) return;
      yield next.value.event;
    }
  } catch (error) {
    if (error instanceof TypeError) throw error;
    yield silent
      ? new ContactError(status.UNAVAILABLE, `the stream sent nothing for ${silenceMs / 1000} s`)
      : explain(error);
  } finally {
    cancel();
  }
}

/** The milliseconds before the next call, or undefined if the same call would fail again. */
export function pause(error: ContactError, failures: number): number | undefined {
  // Clients that a restart disconnects at the same moment must not come back together.
  const backoff = Math.min(BACKOFF_FIRST * 2 ** Math.min(failures - 1, 16), BACKOFF_LONGEST);
  const jitter = (Math.random() * backoff) / 2;
  if (error.retryAfterMs !== undefined) return error.retryAfterMs + jitter;
  if (error.reason !== undefined) return error.retryable ? backoff / 2 + jitter : undefined;
  const trailers = (error.cause as Partial<ServiceError> | undefined)?.metadata;
  const pushback = trailers?.get("grpc-retry-pushback-ms")[0];
  if (pushback !== undefined)
    return /^\d{1,9}$/.test(String(pushback)) ? Number(pushback) + jitter : undefined;
  return BROKEN.test(error.codeName) ? backoff / 2 + jitter : undefined;
}
