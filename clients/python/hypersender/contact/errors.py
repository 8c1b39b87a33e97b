"""The errors of the package: `ContactError`, and a class for each reason of the service."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

# The domain of the reasons of the service. A proxy may give reasons of its own.
_DOMAIN = "hypersender-grpc"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ContactError(Exception):
    """A call, or the look-up of one contact of a batch or a stream, failed.

    Decide by the class, or by `reason`. Where you do not know the reason, decide by `code`, and never by
    `message`. The error of a call has the `grpc.RpcError` as its `__cause__`.
    """

    # The status code of gRPC.
    code: grpc.StatusCode
    # The reason of the service, such as NOT_ON_WHATSAPP. Empty for an error that is not from the service,
    # such as a refused connection.
    reason: str
    # The field of the request that must change, such as chat_ids[3]. Empty if the service names none.
    field: str
    # Seconds after which to ask again, in whole milliseconds; None if the service names no wait.
    retry_after: float | None
    # For people. It has no chat id, no link and no token.
    message: str

    _by_reason: ClassVar[dict[str, type[ContactError]]] = {}

    def __init_subclass__(cls, reason: str = "") -> None:
        if reason:
            ContactError._by_reason[reason] = cls

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str = "",
        field: str = "",
        retry_after: float | None = None,
        message: str = "",
    ) -> None:
        super().__init__(code, reason, field, retry_after, message)
        self.code, self.reason, self.field, self.retry_after, self.message = (
            code,
            reason,
            field,
            retry_after,
            message,
        )

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later: there is a wait, or the time was too short."""
        return self.retry_after is not None or self.code is grpc.StatusCode.DEADLINE_EXCEEDED

    def __str__(self) -> str:
        words = " ".join(filter(None, [self.code.name, self.reason, self.field and f"({self.field})"]))
        wait = f", try again in {self.retry_after:g} s" if self.retry_after else ""
        return f"{words}{wait}: {self.message}" if self.message else f"{words}{wait}"


def from_status(status: Status) -> ContactError:
    """Read the error of one contact. A code that gRPC does not have becomes UNKNOWN."""
    return _error(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def from_call(error: grpc.RpcError) -> ContactError:
    """Read the error of a call. Details that cannot be read count as none."""
    status, details = Status(), trailer(error, "grpc-status-details-bin")
    with contextlib.suppress(DecodeError):
        status = Status.FromString(details if isinstance(details, bytes) else b"")
    return _error(error.code(), error.details() or "", status)


def trailer(error: grpc.RpcError, name: str) -> str | bytes | None:
    """Return the value of a trailer, or None."""
    metadata: Any = error.trailing_metadata() or ()
    # The metadata of asyncio looks like a mapping, and is none.
    return dict[str, "str | bytes"](list(metadata)).get(name)


def _error(code: grpc.StatusCode, message: str, status: Status) -> ContactError:
    reason, field, retry_after = "", "", None
    for detail in status.details:
        with contextlib.suppress(DecodeError):
            if detail.TypeName() == "google.rpc.ErrorInfo":
                info = ErrorInfo.FromString(detail.value)
                reason = info.reason if info.domain == _DOMAIN else reason
            elif detail.TypeName() == "google.rpc.BadRequest":
                violations = BadRequest.FromString(detail.value).field_violations
                field = violations[0].field if violations else ""
            elif detail.TypeName() == "google.rpc.RetryInfo":
                nanoseconds = RetryInfo.FromString(detail.value).retry_delay.ToNanoseconds()
                retry_after = -(-nanoseconds // 1_000_000) / 1000 if nanoseconds > 0 else None
    usual = DeadlineExceeded if code is grpc.StatusCode.DEADLINE_EXCEEDED else ContactError
    return ContactError._by_reason.get(reason, usual)(code, reason, field, retry_after, message)


class TlsFault(ContactError):
    """There is no connection: probably only one side speaks TLS, or the certificate is not trusted."""


class ChatIdInvalid(ContactError, reason="CHAT_ID_INVALID"):
    """The chat id has none of the allowed forms."""


class InstanceInvalid(ContactError, reason="INSTANCE_INVALID"):
    """The instance is not a valid name, or there is none and the server has no default."""


class CacheControlInvalid(ContactError, reason="CACHE_CONTROL_INVALID"):
    """`max_age`, `min_fresh` or `stale_if_error` is not a valid duration."""


class BatchSizeInvalid(ContactError, reason="BATCH_SIZE_INVALID"):
    """A batch has no chat ids, or more than 100."""


class UpstreamRejectedRequest(ContactError, reason="UPSTREAM_REJECTED_REQUEST"):
    """Hypersender rejects the request for this contact."""


class NotOnWhatsApp(ContactError, reason="NOT_ON_WHATSAPP"):
    """The number has no WhatsApp account. This is an answer."""


class UpstreamNotFound(ContactError, reason="UPSTREAM_NOT_FOUND"):
    """Hypersender does not know the contact or the instance."""


class InstanceNotConfigured(ContactError, reason="INSTANCE_NOT_CONFIGURED"):
    """The service has no token for the instance."""


class CallerUnknown(ContactError, reason="CALLER_UNKNOWN"):
    """The call has no token or certificate that the service knows."""


class UpstreamCredentialsRejected(ContactError, reason="UPSTREAM_CREDENTIALS_REJECTED"):
    """Hypersender rejects the token."""


class InstanceNotAllowed(ContactError, reason="INSTANCE_NOT_ALLOWED"):
    """The caller may not use the instance."""


class InstanceNotConnected(ContactError, reason="INSTANCE_NOT_CONNECTED"):
    """The instance is not logged in to WhatsApp."""


class NotCached(ContactError, reason="NOT_CACHED"):
    """`only_if_cached` is set, and no acceptable answer is stored."""


class RateLimited(ContactError, reason="RATE_LIMITED"):
    """The rate limit of the instance is reached."""


class UpstreamRateLimited(RateLimited, reason="UPSTREAM_RATE_LIMITED"):
    """Hypersender limits the requests."""


class MessageTooLarge(ContactError, reason="MESSAGE_TOO_LARGE"):
    """The request has too many bytes."""


class TooManyStreams(ContactError, reason="TOO_MANY_STREAMS"):
    """The service, the instance or the caller has as many streams as it may have."""


class MetadataTooLarge(ContactError, reason="METADATA_TOO_LARGE"):
    """The metadata of the call has too many bytes."""


class UpstreamUnavailable(ContactError, reason="UPSTREAM_UNAVAILABLE"):
    """Hypersender fails or cannot be reached."""


class UpstreamTimeout(ContactError, reason="UPSTREAM_TIMEOUT"):
    """Hypersender does not answer in time."""


class UpstreamQueued(ContactError, reason="UPSTREAM_QUEUED"):
    """Hypersender queued the request instead of answering it."""


class UpstreamCircuitOpen(ContactError, reason="UPSTREAM_CIRCUIT_OPEN"):
    """The service pauses after failures of Hypersender."""


class UpstreamBlocked(ContactError, reason="UPSTREAM_BLOCKED"):
    """A network in front of Hypersender blocks the service."""


class InstanceStarting(ContactError, reason="INSTANCE_STARTING"):
    """The WhatsApp instance is starting."""


class ServerStopping(ContactError, reason="SERVER_STOPPING"):
    """The service stops before the stream has sent every result."""


class Overloaded(ContactError, reason="OVERLOADED"):
    """The service is at one of its limits."""


class DeadlineExceeded(ContactError, reason="DEADLINE_EXCEEDED"):
    """There was no answer in time. The reason is empty if gRPC itself found it out."""


class CompressionUnsupported(ContactError, reason="COMPRESSION_UNSUPPORTED"):
    """The request is compressed."""


class MessageInvalid(ContactError, reason="MESSAGE_INVALID"):
    """The request is not one message of the method."""


class UpstreamResponseInvalid(ContactError, reason="UPSTREAM_RESPONSE_INVALID"):
    """Hypersender's answer cannot be understood."""


class InternalError(ContactError, reason="INTERNAL"):
    """A defect of the service."""
