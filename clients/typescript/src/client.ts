/** The client: single look-ups, batches and streams. */

import * as grpc from "@grpc/grpc-js";

import { channelOptions, checkToken, credentialsFor, type Tls, type Token } from "./channel.js";
import { ContactError, explain } from "./errors.js";
import { newer, type Picture, type Result, type Results, toPicture, toResult } from "./picture.js";
import type { BatchOptions, CallOptions, StreamOptions } from "./request.js";
import * as request from "./request.js";
import { Scope } from "./scope.js";
import { resume } from "./stream.js";
import { parseTarget } from "./target.js";
import { ContactServiceClient } from "./v1.js";

type Done<Response> = grpc.requestCallback<Response>;
/** The deadlines of calls that set none, in milliseconds. */
const SINGLE_MS = 5_000;
const BATCH_MS = 30_000;

/** Options of {@link createContactClient}. */
export interface ContactClientOptions {
  /**
   * `host:port`, where the name may have several addresses; or a target of gRPC with one of the schemes dns,
   * ipv4, ipv6, unix and xds.
   */
  target: string;
  /** The instance of calls that name none. By default the service decides. */
  instance?: string | undefined;
  /** The bearer token of calls that have none. */
  token?: Token | undefined;
  /**
   * By default plain text if every address is on this machine, and TLS with the roots of Node.js otherwise.
   */
  tls?: Tls | undefined;
  /** Sends tokens in plain text to other machines, too. Everybody on the way can read and use them. */
  allowTokenInPlainText?: boolean | undefined;
  /** The deadline of getProfilePicture in milliseconds, 5000 by default. */
  timeoutMs?: number | undefined;
  /** Name and version of your program, such as `shop/1.2`, for the user agent. */
  userAgent?: string | undefined;
  /** Interceptors of grpc-js for every call. */
  interceptors?: grpc.Interceptor[] | undefined;
  /** Options of the channel, in place of those of the package. */
  channelOptions?: grpc.ChannelOptions | undefined;
}

/**
 * Makes a client. It connects at its first call.
 *
 * @throws TypeError for an option that cannot work, such as a target without a port.
 */
export function createContactClient(options: ContactClientOptions): ContactClient {
  return new ContactClient(options);
}

/**
 * Looks up profile pictures. Every call fails with a {@link ContactError}, or a TypeError for a wrong
 * argument.
 */
export class ContactClient {
  /**
   * The client of grpc-js that this one uses, for calls without resuming, typed errors and default deadlines.
   */
  readonly grpc: ContactServiceClient;
  readonly #options: ContactClientOptions;
  readonly #secure: boolean;
  readonly #mayCarryToken: boolean;
  readonly #closing = new AbortController();

  /** @internal Use {@link createContactClient}. */
  constructor(options: ContactClientOptions) {
    const { dials, loopback } = parseTarget(options.target);
    const credentials = credentialsFor(options.tls, loopback);
    this.#options = { ...options };
    this.#secure = credentials._isSecure();
    this.#mayCarryToken = this.#secure || loopback || options.allowTokenInPlainText === true;
    request.checkTimeout(options.timeoutMs);
    request.checkText("instance", options.instance ?? "");
    this.#checkToken(options.token);
    this.grpc = new ContactServiceClient(dials, credentials, {
      ...channelOptions(loopback, options.userAgent, options.channelOptions),
      interceptors: options.interceptors ?? [],
    });
  }

  /**
   * Looks up one contact, within 5 s. The picture is undefined if the contact has none, or hides it.
   *
   * @param chatId a phone number in digits, or a chat id such as 15551234567@c.us
   */
  async getProfilePicture(chatId: string, options: CallOptions = {}): Promise<Picture | undefined> {
    const one = { chatId: request.checkText("chat_id", chatId), ...this.#common(options) };
    const timeout = options.timeoutMs ?? this.#options.timeoutMs ?? SINGLE_MS;
    const response = await this.#unary(timeout, options, this.grpc.getProfilePicture.bind(this.grpc, one));
    const picture = toPicture(response.profilePicture, response.cacheInfo);
    if (picture instanceof ContactError) throw picture;
    return picture;
  }

  /**
   * Looks up 1 to 100 contacts in one call, within 30 s. The results have the order of the ids; each has its
   * own outcome, and the promise is fulfilled even when every contact fails.
   */
  async batchGetProfilePictures(chatIds: readonly string[], options: BatchOptions = {}): Promise<Result[]> {
    const ids = request.checkIds(chatIds);
    const call = this.grpc.batchGetProfilePictures.bind(this.grpc, this.#many(ids, options));
    const { results } = await this.#unary(options.timeoutMs ?? BATCH_MS, options, call);
    if (results.length !== ids.length) throw newer("a number of results");
    return results.map((result, index) => toResult(index, ids[index] ?? "", result));
  }

  /**
   * Looks up any number of contacts, and yields exactly one result for each position of `chatIds`, in any
   * order, as soon as it is known. It resumes calls that break, and throws when that is in vain: the results
   * before stay valid.
   *
   * The call starts with the loop. Leaving the loop cancels it, and while the loop is slow, it reads no
   * further.
   */
  streamProfilePictures(chatIds: readonly string[], options: StreamOptions = {}): Results {
    const ids = request.checkIds(chatIds);
    request.checkTimeout(options.timeoutMs);
    this.#checkToken(options.token);
    this.#many(ids, options);
    return this.#stream(ids, { ...options });
  }

  /**
   * Ends the calls in progress with CANCELLED, and closes the connections. Later calls fail in the same way.
   */
  close(): void {
    this.#closing.abort(new ContactError(grpc.status.CANCELLED, "the client is closed"));
    this.grpc.close();
  }

  /** Closes the client at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  async *#stream(ids: string[], options: StreamOptions): Results {
    const scope = new Scope(options.timeoutMs, this.#closing.signal, options.signal);
    const start = async (part: string[]) => {
      const metadata = await this.#metadata(options, scope);
      return this.grpc.streamProfilePictures(this.#many(part, options), metadata, {
        deadline: scope.deadline,
      });
    };
    try {
      yield* resume({ start, explain: (error) => explain(error, this.#secure) }, ids, scope, options);
    } finally {
      scope.dispose();
    }
  }

  #common(options: CallOptions) {
    const instance = request.checkText("instance", options.instance ?? this.#options.instance ?? "");
    return { instance, ...request.cacheControl(options) };
  }

  #many(chatIds: string[], options: BatchOptions) {
    const knownFingerprints = request.knownOf(chatIds, options.knownFingerprints);
    return { chatIds, knownFingerprints, ...this.#common(options) };
  }

  async #unary<Response>(
    timeout: number,
    options: CallOptions,
    call: (metadata: grpc.Metadata, options: grpc.CallOptions, done: Done<Response>) => grpc.ClientUnaryCall,
  ): Promise<Response> {
    const scope = new Scope(request.checkTimeout(timeout), this.#closing.signal, options.signal);
    try {
      const metadata = await this.#metadata(options, scope);
      return await new Promise<Response>((resolve, reject) => {
        const done: Done<Response> = (error, response) =>
          error ? reject(error) : resolve(response as Response);
        const started = call(metadata, { deadline: scope.deadline }, done);
        scope.onEnd(() => started.cancel());
      });
    } catch (error) {
      // Made here, after the wait, the error has the lines of the caller in its stack.
      throw error instanceof TypeError ? error : (scope.ended ?? explain(error, this.#secure));
    } finally {
      scope.dispose();
    }
  }

  /** The metadata of a call: the token, if there is one. */
  async #metadata(options: CallOptions, scope: Scope): Promise<grpc.Metadata> {
    if (scope.ended) throw scope.ended;
    const metadata = new grpc.Metadata();
    const token = options.token ?? this.#options.token;
    this.#checkToken(token);
    if (token === undefined) return metadata;
    const ask = async () => (typeof token === "function" ? token() : token);
    const text = await scope.race(ask()).catch((cause: unknown) => {
      if (cause instanceof ContactError) throw cause;
      // A token service that cannot be reached now may be back when the stream is resumed.
      throw new ContactError(grpc.status.UNAVAILABLE, "the token provider failed", { cause });
    });
    metadata.set("authorization", `Bearer ${checkToken(text)}`);
    return metadata;
  }

  #checkToken(token: Token | undefined): void {
    if (token === undefined) return;
    if (typeof token !== "function") checkToken(token);
    if (this.#mayCarryToken) return;
    throw new TypeError("the token would cross a network in plain text: see allowTokenInPlainText");
  }
}
