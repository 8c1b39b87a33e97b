/** The time in which a request may work: until its deadline, its AbortSignal, or the close of its client. */

import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

import { status } from "@grpc/grpc-js";

import { ContactError } from "./errors.js";

/** The longest time that a timer of Node.js can wait, in milliseconds. */
const TIMER_MAX = 2 ** 31 - 1;

/** Ends once, when a signal does. Its owner must call {@link Scope.dispose} when the request is done. */
export class Scope {
  /** Milliseconds since 1970, or Infinity. gRPC ends a call at that time. */
  readonly deadline: number;
  /** The error of the signal that ended the scope. */
  ended: ContactError | undefined;
  /** Lets go of the signals, which may live much longer than the request. */
  readonly dispose: () => void;
  readonly #controller = new AbortController();

  constructor(timeoutMs: number | undefined, ...signals: (AbortSignal | undefined)[]) {
    this.deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs;
    const end = ({ target }: { target: unknown }) => this.#end((target as AbortSignal).reason);
    for (const signal of signals) {
      // Node.js takes more than ten calls at a time for a leak, and warns.
      if (signal) setMaxListeners(0, signal);
      if (signal?.aborted) this.#end(signal.reason);
      else signal?.addEventListener("abort", end);
    }
    this.dispose = () => {
      for (const signal of signals) signal?.removeEventListener("abort", end);
    };
  }

  /** Calls `stop` when the scope ends, or at once if it has ended. */
  onEnd(stop: () => void): void {
    if (this.ended) stop();
    else this.#controller.signal.addEventListener("abort", stop);
  }

  /** Waits, or throws when the scope ends. It does not know the deadline. */
  async sleep(milliseconds: number, signal: AbortSignal = this.#controller.signal): Promise<void> {
    await sleep(Math.min(milliseconds, TIMER_MAX), undefined, { signal }).catch((error: unknown) => {
      throw this.ended ?? error;
    });
  }

  /** The result of `work`, or an error if the scope ends before, or the deadline passes. */
  async race<T>(work: Promise<T>): Promise<T> {
    const done = new AbortController();
    this.onEnd(() => done.abort());
    const late = this.sleep(this.deadline - Date.now(), done.signal).then(() => {
      throw new ContactError(status.DEADLINE_EXCEEDED, "the deadline passed before the call");
    });
    return Promise.race([work, late]).finally(() => done.abort());
  }

  #end(cause: unknown): void {
    const late = (cause as Partial<Error> | undefined)?.name === "TimeoutError";
    const code = late ? status.DEADLINE_EXCEEDED : status.CANCELLED;
    this.ended ??= cause instanceof ContactError ? cause : new ContactError(code, "aborted", { cause });
    this.#controller.abort();
  }
}
