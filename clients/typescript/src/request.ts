/** The options of a call, and the requests that are made of them. */

import { durationFromMs } from "@bufbuild/protobuf/wkt";

import type { Token } from "./channel.js";
import type { ContactError } from "./errors.js";

/** Options of every call. */
export interface CallOptions {
  /** The instance to ask, usually a UUID. By default that of the client, else that of the service. */
  instance?: string | undefined;
  /** The bearer token of this call, in place of that of the client. */
  token?: Token | undefined;
  /** The time for the request in milliseconds, retries and resumed calls included. */
  timeoutMs?: number | undefined;
  /** Ends the request with the code CANCELLED; the `cause` of the error is the reason of the signal. */
  signal?: AbortSignal | undefined;
  /** The oldest acceptable answer in milliseconds. 0: ask Hypersender again. */
  maxAgeMs?: number | undefined;
  /** The shortest acceptable rest of the link's life in milliseconds. */
  minFreshMs?: number | undefined;
  /**
   * How long after its freshness an answer is acceptable when Hypersender fails, in milliseconds. 0: not at
   * all.
   */
  staleIfErrorMs?: number | undefined;
  /** Whether to answer from the cache alone, with NOT_CACHED for all other contacts. */
  onlyIfCached?: boolean | undefined;
}

/** Options of a batch. */
export interface BatchOptions extends CallOptions {
  /**
   * The fingerprints that you have, by chat id as in the request. Pictures that still have them are
   * `unchanged`.
   */
  knownFingerprints?: Readonly<Record<string, string>> | ReadonlyMap<string, string> | undefined;
}

/** Options of a stream. `timeoutMs` counts for all its calls together; by default there is no limit. */
export interface StreamOptions extends BatchOptions {
  /** Called about every 10 s in which no result comes. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Called when a call broke, with its error and the milliseconds until the next one. */
  onBroken?: ((error: ContactError, waitMs: number) => void) | undefined;
}

/** The state of a stream, for the whole request. */
export interface Progress {
  /** The number of results so far, failed ones included. */
  done: number;
  /** The number of failed results so far. */
  failed: number;
  /** The number of chat ids. */
  total: number;
  /** When the service expects to ask Hypersender next. */
  nextTurnTime: Date | undefined;
  /** Until when Hypersender wants a pause. */
  pausedUntil: Date | undefined;
}

/**
 * Checks text before gRPC fails on it in a way that looks like a broken connection.
 *
 * @throws TypeError with the name, and without the text.
 */
export function checkText(name: string, text: unknown): string {
  if (typeof text !== "string") throw new TypeError(`${name} is not a string`);
  if (!text.isWellFormed()) throw new TypeError(`${name} is not valid Unicode`);
  return text;
}

/** Checks the chat ids of a batch or a stream, and copies them. */
export function checkIds(chatIds: readonly string[]): string[] {
  if (!Array.isArray(chatIds)) throw new TypeError("chatIds must be an array of strings");
  return Array.from(chatIds, (chatId, index) => checkText(`chat_ids[${index}]`, chatId));
}

/** Checks the time of a request. */
export function checkTimeout(milliseconds: number | undefined): number | undefined {
  if (milliseconds === undefined || (Number.isFinite(milliseconds) && milliseconds > 0)) return milliseconds;
  throw new TypeError("timeoutMs must be a number of milliseconds above 0");
}

/** The fingerprints of the ids alone: the service refuses a request with more fingerprints than ids. */
export function knownOf(chatIds: readonly string[], known: BatchOptions["knownFingerprints"] = {}) {
  const all = known instanceof Map ? known : new Map<string, unknown>(Object.entries(known));
  const fingerprints: Record<string, string> = {};
  for (const [index, chatId] of chatIds.entries()) {
    const fingerprint: unknown = all.get(chatId);
    if (fingerprint === undefined) continue;
    fingerprints[chatId] = checkText(`known_fingerprints of chat_ids[${index}]`, fingerprint);
  }
  return fingerprints;
}

/**
 * The part of a request that says which answers of the cache are acceptable; undefined leaves it to the
 * service.
 */
export function cacheControl({ maxAgeMs, minFreshMs, staleIfErrorMs, onlyIfCached }: CallOptions) {
  const entries = Object.entries({ maxAge: maxAgeMs, minFresh: minFreshMs, staleIfError: staleIfErrorMs });
  const set = entries.flatMap(([name, milliseconds]) => {
    if (milliseconds === undefined) return [];
    if (!Number.isFinite(milliseconds)) throw new TypeError(`${name}Ms must be a number of milliseconds`);
    return [[name, durationFromMs(Math.round(milliseconds))]];
  });
  if (set.length === 0 && !onlyIfCached) return {};
  return { cacheControl: { ...Object.fromEntries(set), onlyIfCached: onlyIfCached ?? false } };
}
