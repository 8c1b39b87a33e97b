/** A profile picture, and the result for one contact of a batch or a stream. */

import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";

import { ContactError, fromStatus } from "./errors.js";
import * as v1 from "./gen/hypersender/contact/v1/contact_service_pb.js";

/** A picture that a contact has. Loggers, JSON.stringify and copies of the object do not see its links. */
export interface Picture {
  /** The link to the image. It is secret: anyone who has it can fetch the image until it expires. */
  readonly url: string;
  /**
   * The address of the image on the service, for an `<img>`; empty if the service gives none. It is secret,
   * too.
   */
  readonly avatarUrl: string;
  /** The time at which `url` stops working; undefined if it is not known. */
  readonly expireTime: Date | undefined;
  /** Stays the same while the picture stays the same. Store it, and compare it for equality only. */
  readonly fingerprint: string;
  /** The time at which Hypersender gave this answer. */
  readonly fetchTime: Date | undefined;
  /** The instance that was asked. */
  readonly instance: string;
  /** The contact in canonical form, such as 15551234567@c.us. */
  readonly chatId: string;
  /** Whether the answer is no longer fresh, because a new one is being fetched or could not be fetched. */
  readonly stale: boolean;
}

/** The result for one contact of a batch or a stream. `outcome` tells the kinds apart. */
export type Result = {
  /** The position in the chat ids of the request. */
  readonly index: number;
  /** The chat id exactly as in the request. */
  readonly chatId: string;
  /** As in {@link Picture}, also for a contact without a picture; empty if the contact failed. */
  readonly avatarUrl: string;
  /** The time at which Hypersender gave this answer; undefined if the contact failed. */
  readonly fetchTime: Date | undefined;
  /** As in {@link Picture}. */
  readonly stale: boolean;
} & (
  | { readonly outcome: "present"; readonly picture: Picture; readonly error?: undefined }
  /**
   * `absent`: no picture, or a hidden one. `unchanged`: the picture still has the fingerprint of the request.
   */
  | { readonly outcome: "absent" | "unchanged"; readonly picture?: undefined; readonly error?: undefined }
  | { readonly outcome: "failed"; readonly picture?: undefined; readonly error: ContactError }
);

/** The results of a stream. */
export type Results = AsyncGenerator<Result, void, undefined>;

/**
 * The picture of an answer; undefined if the contact has none; an error if the service is newer than the
 * package.
 */
export function toPicture(
  picture?: v1.ProfilePicture,
  info?: v1.CacheInfo,
): Picture | undefined | ContactError {
  if (picture?.state === v1.ProfilePictureState.NOT_AVAILABLE) return undefined;
  if (picture?.state !== v1.ProfilePictureState.PRESENT) return newer("a state");
  const { url, avatarUrl, fingerprint, instance, chatId } = picture;
  const [expireTime, fetchTime] = [date(picture.expireTime), date(picture.fetchTime)];
  const stale = info?.status === v1.CacheStatus.STALE;
  const seen = { expireTime, fingerprint, fetchTime, instance, chatId, stale };
  return hide(seen, { url, avatarUrl }, `Picture(fingerprint ${fingerprint})`);
}

/** The result of position `index`. */
export function toResult(index: number, chatId: string, result: v1.ProfilePictureResult): Result {
  const { outcome, cacheInfo } = result;
  let found: Picture | undefined | ContactError;
  if (outcome.case === "profilePicture") found = toPicture(outcome.value, cacheInfo);
  else if (outcome.case === "error") found = fromStatus(outcome.value);
  else if (outcome.case === undefined) found = newer("an outcome");
  const error = found instanceof ContactError ? found : undefined;
  const picture = found instanceof ContactError ? undefined : found;
  const kind = error ? "failed" : picture ? "present" : outcome.case === "unchanged" ? "unchanged" : "absent";
  const answer = error || outcome.case === "error" ? undefined : outcome.value;
  const stale = cacheInfo?.status === v1.CacheStatus.STALE;
  const seen = { index, chatId, outcome: kind, picture, error, fetchTime: date(answer?.fetchTime), stale };
  const text = `Result(index ${index}, ${kind}${error ? `, ${error.message}` : ""})`;
  return hide(seen, { avatarUrl: answer?.avatarUrl ?? "" }, text) as Result;
}

/**
 * Adds properties that loggers, JSON and copies do not see, and `text` for console.log, which has no chat id.
 */
function hide<A extends object, B extends object>(seen: A, hidden: B, text: string): A & B {
  const all = { ...hidden, toString: () => text, [Symbol.for("nodejs.util.inspect.custom")]: () => text };
  for (const key of Reflect.ownKeys(all)) Object.defineProperty(seen, key, { value: Reflect.get(all, key) });
  return seen as A & B;
}

/** The error of an answer that this version does not know. */
export function newer(part: string): ContactError {
  return new ContactError(status.UNKNOWN, `the service sent ${part} that is new here: update the package`);
}

/** A time of the service; undefined if it is unset or after the last one of a Date. */
export function date(time: Timestamp | undefined): Date | undefined {
  const date = time && timestampDate(time);
  return Number.isNaN(date?.getTime()) ? undefined : date;
}
