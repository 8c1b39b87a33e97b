package contact

// Reason says why a call or a contact failed. It is that of google.rpc.ErrorInfo; docs/errors.md lists all of
// them with what to do. Later servers may send others: where you do not know the reason, decide by the code.
type Reason string

// The reasons of this version of the package.
const (
	ReasonBatchSizeInvalid            Reason = "BATCH_SIZE_INVALID"
	ReasonCacheControlInvalid         Reason = "CACHE_CONTROL_INVALID"
	ReasonCallerUnknown               Reason = "CALLER_UNKNOWN"
	ReasonChatIDInvalid               Reason = "CHAT_ID_INVALID"
	ReasonCompressionUnsupported      Reason = "COMPRESSION_UNSUPPORTED"
	ReasonDeadlineExceeded            Reason = "DEADLINE_EXCEEDED"
	ReasonInstanceInvalid             Reason = "INSTANCE_INVALID"
	ReasonInstanceNotAllowed          Reason = "INSTANCE_NOT_ALLOWED"
	ReasonInstanceNotConfigured       Reason = "INSTANCE_NOT_CONFIGURED"
	ReasonInstanceNotConnected        Reason = "INSTANCE_NOT_CONNECTED"
	ReasonInstanceStarting            Reason = "INSTANCE_STARTING"
	ReasonInternal                    Reason = "INTERNAL"
	ReasonMessageInvalid              Reason = "MESSAGE_INVALID"
	ReasonMessageTooLarge             Reason = "MESSAGE_TOO_LARGE"
	ReasonMetadataTooLarge            Reason = "METADATA_TOO_LARGE"
	ReasonNotCached                   Reason = "NOT_CACHED"
	ReasonNotOnWhatsApp               Reason = "NOT_ON_WHATSAPP"
	ReasonOverloaded                  Reason = "OVERLOADED"
	ReasonRateLimited                 Reason = "RATE_LIMITED"
	ReasonServerStopping              Reason = "SERVER_STOPPING"
	ReasonTooManyStreams              Reason = "TOO_MANY_STREAMS"
	ReasonUpstreamBlocked             Reason = "UPSTREAM_BLOCKED"
	ReasonUpstreamCircuitOpen         Reason = "UPSTREAM_CIRCUIT_OPEN"
	ReasonUpstreamCredentialsRejected Reason = "UPSTREAM_CREDENTIALS_REJECTED"
	ReasonUpstreamNotFound            Reason = "UPSTREAM_NOT_FOUND"
	ReasonUpstreamQueued              Reason = "UPSTREAM_QUEUED"
	ReasonUpstreamRateLimited         Reason = "UPSTREAM_RATE_LIMITED"
	ReasonUpstreamRejectedRequest     Reason = "UPSTREAM_REJECTED_REQUEST"
	ReasonUpstreamResponseInvalid     Reason = "UPSTREAM_RESPONSE_INVALID"
	ReasonUpstreamTimeout             Reason = "UPSTREAM_TIMEOUT"
	ReasonUpstreamUnavailable         Reason = "UPSTREAM_UNAVAILABLE"
)
