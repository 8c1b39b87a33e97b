// Written by `make generate` from docs/errors.md.

/** The reasons of this version of the service. A newer service may send others. */
export const Reason = {
  /**
   * INVALID_ARGUMENT: `chat_id` has none of the allowed forms.
   */
  CHAT_ID_INVALID: "CHAT_ID_INVALID",
  /**
   * INVALID_ARGUMENT: `instance` is not a valid name, or it is empty and there is no default instance.
   */
  INSTANCE_INVALID: "INSTANCE_INVALID",
  /**
   * INVALID_ARGUMENT: a duration in `cache_control` is negative or malformed.
   */
  CACHE_CONTROL_INVALID: "CACHE_CONTROL_INVALID",
  /**
   * INVALID_ARGUMENT: a batch or a stream has no chat ids, or more entries than it may have.
   */
  BATCH_SIZE_INVALID: "BATCH_SIZE_INVALID",
  /**
   * INVALID_ARGUMENT: Hypersender rejects the request for this contact.
   */
  UPSTREAM_REJECTED_REQUEST: "UPSTREAM_REJECTED_REQUEST",
  /**
   * NOT_FOUND: the number has no WhatsApp account.
   */
  NOT_ON_WHATSAPP: "NOT_ON_WHATSAPP",
  /**
   * NOT_FOUND: Hypersender does not know the contact or the instance.
   */
  UPSTREAM_NOT_FOUND: "UPSTREAM_NOT_FOUND",
  /**
   * NOT_FOUND: the service has no token for the instance.
   */
  INSTANCE_NOT_CONFIGURED: "INSTANCE_NOT_CONFIGURED",
  /**
   * UNAUTHENTICATED: the call has no known token or certificate, or its `authorization` is malformed or appears twice.
   */
  CALLER_UNKNOWN: "CALLER_UNKNOWN",
  /**
   * UNAUTHENTICATED: passthrough: Hypersender does not know the token of the call.
   * PERMISSION_DENIED: passthrough: the token of the call is not for this instance.
   * FAILED_PRECONDITION: Hypersender rejects the service's own token.
   */
  UPSTREAM_CREDENTIALS_REJECTED: "UPSTREAM_CREDENTIALS_REJECTED",
  /**
   * PERMISSION_DENIED: the callers file does not give this caller the instance.
   */
  INSTANCE_NOT_ALLOWED: "INSTANCE_NOT_ALLOWED",
  /**
   * FAILED_PRECONDITION: the instance is not logged in to WhatsApp.
   */
  INSTANCE_NOT_CONNECTED: "INSTANCE_NOT_CONNECTED",
  /**
   * FAILED_PRECONDITION: `only_if_cached` is set and nothing acceptable is stored.
   */
  NOT_CACHED: "NOT_CACHED",
  /**
   * RESOURCE_EXHAUSTED: the service's own rate limit for the instance is reached, or the instance pauses after a 429 for another contact; Hypersender was not asked.
   */
  RATE_LIMITED: "RATE_LIMITED",
  /**
   * RESOURCE_EXHAUSTED: Hypersender answered the request for this contact with 429.
   */
  UPSTREAM_RATE_LIMITED: "UPSTREAM_RATE_LIMITED",
  /**
   * RESOURCE_EXHAUSTED: the request message has more than 16 KiB (a batch: 512 KiB, a stream: 2 MiB).
   */
  MESSAGE_TOO_LARGE: "MESSAGE_TOO_LARGE",
  /**
   * RESOURCE_EXHAUSTED: the service, the instance or the caller has as many streams in progress as it may have.
   */
  TOO_MANY_STREAMS: "TOO_MANY_STREAMS",
  /**
   * RESOURCE_EXHAUSTED: the metadata of the call has more than 16 KiB.
   */
  METADATA_TOO_LARGE: "METADATA_TOO_LARGE",
  /**
   * UNAVAILABLE: Hypersender fails or cannot be reached.
   */
  UPSTREAM_UNAVAILABLE: "UPSTREAM_UNAVAILABLE",
  /**
   * UNAVAILABLE: Hypersender does not answer in time.
   */
  UPSTREAM_TIMEOUT: "UPSTREAM_TIMEOUT",
  /**
   * UNAVAILABLE: Hypersender queued the request instead of answering it.
   */
  UPSTREAM_QUEUED: "UPSTREAM_QUEUED",
  /**
   * UNAVAILABLE: requests for the instance kept failing, so the service pauses them for a while.
   */
  UPSTREAM_CIRCUIT_OPEN: "UPSTREAM_CIRCUIT_OPEN",
  /**
   * UNAVAILABLE: a CDN in front of Hypersender blocks the address of this service.
   */
  UPSTREAM_BLOCKED: "UPSTREAM_BLOCKED",
  /**
   * UNAVAILABLE: the WhatsApp instance is starting.
   */
  INSTANCE_STARTING: "INSTANCE_STARTING",
  /**
   * UNAVAILABLE: the service stops before the stream has sent every result.
   */
  SERVER_STOPPING: "SERVER_STOPPING",
  /**
   * UNAVAILABLE: the service is at one of [its limits](rules.md#rule-26-messages-calls-connections), such as calls or fetches in progress.
   */
  OVERLOADED: "OVERLOADED",
  /**
   * DEADLINE_EXCEEDED: the deadline passed before there was an answer.
   */
  DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
  /**
   * UNIMPLEMENTED: the request message is compressed.
   */
  COMPRESSION_UNSUPPORTED: "COMPRESSION_UNSUPPORTED",
  /**
   * INTERNAL: the body is not exactly one message of the method's type.
   */
  MESSAGE_INVALID: "MESSAGE_INVALID",
  /**
   * INTERNAL: Hypersender's answer cannot be understood.
   */
  UPSTREAM_RESPONSE_INVALID: "UPSTREAM_RESPONSE_INVALID",
  /**
   * INTERNAL: a defect of the service.
   */
  INTERNAL: "INTERNAL",
} as const;

/** A reason of this version, or the text of a newer one. */
export type Reason = (typeof Reason)[keyof typeof Reason] | (string & {});
