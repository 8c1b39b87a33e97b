/** The error of a call or of one contact, with the parts that a program can act on. */

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "./gen/google/rpc/status_pb.js";
import type { Reason } from "./gen/reason.js";

/** The domain of the reasons of the service. A proxy may give reasons of its own. */
const DOMAIN = "hypersender-grpc";

type Parts = { -readonly [Name in "reason" | "field" | "retryAfterMs" | "cause"]?: ContactError[Name] };

/**
 * The error of a call, or that of one contact in a batch or a stream.
 *
 * Decide by `reason`, and where you do not know the reason, by `code`; never by the message.
 */
export class ContactError extends Error {
  /** The code of gRPC, such as `grpc.status.NOT_FOUND`. */
  readonly code: grpc.status;
  /** Says why, such as `NOT_ON_WHATSAPP`. Undefined for an error that is not from the service. */
  readonly reason: Reason | undefined;
  /** The field of the request that must change, such as `chat_ids[7]`. */
  readonly field: string | undefined;
  /** The time after which to call again, in milliseconds; above 0. Undefined if there is none. */
  readonly retryAfterMs: number | undefined;
  /** The text of the service or of grpc-js, for people. It contains no chat id and no link. */
  readonly details: string;

  /** `cause` is the error of grpc-js, the reason of the AbortSignal, or what a token provider threw. */
  constructor(code: grpc.status, details: string, { reason, field, retryAfterMs, ...cause }: Parts = {}) {
    const name = grpc.status[code] ?? "UNKNOWN";
    super(`${name}${reason ? ` ${reason}` : ""}: ${details}`, cause);
    this.code = grpc.status[name as "OK"];
    this.reason = reason;
    this.field = field;
    this.retryAfterMs = retryAfterMs;
    this.details = details;
  }

  /** The name of the code, such as `NOT_FOUND`. */
  get codeName(): string {
    return grpc.status[this.code];
  }

  /** Whether the same call may succeed later: after `retryAfterMs`, or with a longer deadline. */
  get retryable(): boolean {
    return this.retryAfterMs !== undefined || this.code === grpc.status.DEADLINE_EXCEEDED;
  }
}
// An own property would be printed among the parts.
ContactError.prototype.name = "ContactError";

/** The error of a status, such as that of one contact in a batch. */
export function fromStatus(
  status: Pick<Status, "code" | "message" | "details">,
  parts: Parts = {},
): ContactError {
  for (const detail of status.details) {
    // A detail of a newer service, or a damaged one, does not hide the rest of the error.
    try {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info?.domain === DOMAIN) parts.reason = info.reason;
      const delay = anyUnpack(detail, RetryInfoSchema)?.retryDelay;
      const milliseconds = delay ? Math.ceil(Number(delay.seconds) * 1000 + delay.nanos / 1e6) : 0;
      if (milliseconds > 0) parts.retryAfterMs = milliseconds;
      parts.field ??= anyUnpack(detail, BadRequestSchema)?.fieldViolations[0]?.field;
    } catch {}
  }
  return new ContactError(status.code, status.message, parts);
}

/** The error of a call, as grpc-js reports it. `secure` says whether the client speaks TLS. */
export function explain(cause: unknown, secure: boolean): ContactError {
  if (cause instanceof ContactError) return cause;
  const {
    code = grpc.status.UNKNOWN,
    details: message = "grpc-js failed",
    metadata,
  } = cause as Partial<grpc.ServiceError>;
  const bytes = metadata?.get("grpc-status-details-bin")[0];
  if (bytes instanceof Buffer) {
    try {
      // The code and the text of gRPC hold, whatever a proxy has written into the details.
      return fromStatus({ code, message, details: fromBinary(StatusSchema, bytes).details }, { cause });
    } catch {}
  }
  if (!message.includes("No connection established")) return new ContactError(code, message, { cause });
  const change = CHANGES.find(([said]) => said.test(`${secure ? "TLS" : "plain"} ${message}`))?.[1];
  const failed = new ContactError(code, change ? `${change} (${message})` : message, { cause });
  if (change) tlsFaults.add(failed);
  return failed;
}

/** The errors that a change of the option `tls` would mend, and time would not. */
export const tlsFaults = new WeakSet<ContactError>();

/** What to change when there is no connection: by what the client speaks, and by the texts of Node.js. */
const CHANGES: [said: RegExp, change: string][] = [
  [/^TLS .*(wrong version number|EPROTO)/s, "the server does not speak TLS: see the option tls: false"],
  [/^TLS .*(RESET|Socket closed)/s, "the server probably does not speak TLS: see the option tls: false"],
  // The server sends an alert of TLS when the certificate of the client is missing, or not good enough.
  [
    /^TLS .*alert (bad |unsupported )?(certificate|unknown ca)/s,
    "the server asks for a client certificate that it accepts: see the option tls",
  ],
  [/^TLS .*altnames/s, "the certificate is for another name than the host of the target"],
  [/^TLS .*certificate/is, "the certificate is not trusted: give its authority as the option tls"],
  [/^plain .*(Failed to|Protocol|RESET)/s, "the server probably speaks TLS: see the option tls: true"],
];
