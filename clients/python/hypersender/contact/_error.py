"""`ContactError`, and how it is read from a status of gRPC. `errors` has a class for each reason."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

# The domain of the reasons of the service. A proxy may give reasons of its own.
_DOMAIN = "hypersender-grpc"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(eq=False)
class ContactError(Exception):
    """A call, or the look-up of one contact of a batch or a stream, failed.

    Decide by the class, or by `reason`. Where you do not know the reason, decide by `code`, and never by
    `message`. The error of a call has the `grpc.RpcError` as its `__cause__`.
    """

    # The status code of gRPC.
    code: grpc.StatusCode
    # The reason of the service, such as NOT_ON_WHATSAPP. Empty for an error that is not from the service,
    # such as a refused connection.
    reason: str = ""
    # The field of the request that must change, such as chat_ids[3]. Empty if the service names none.
    field: str = ""
    # Seconds after which to ask again, in whole milliseconds; None if the service names no wait.
    retry_after: float | None = None
    # For people. It has no chat id, no link and no token.
    message: str = ""

    _by_reason: ClassVar[dict[str, type[ContactError]]] = {}

    def __init_subclass__(cls, reason: str = "") -> None:
        if reason:
            ContactError._by_reason[reason] = cls

    def __post_init__(self) -> None:
        # Pickle makes the copy of them.
        super().__init__(self.code, self.reason, self.field, self.retry_after, self.message)

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
    return _read(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def from_call(error: grpc.RpcError, explain: Callable[[str], str] = str) -> ContactError:
    """Read the error of a call. Details that cannot be read count as none.

    `explain` may add to the message of an error that is not from the service.
    """
    status, details = Status(), trailer(error, "grpc-status-details-bin")
    with contextlib.suppress(DecodeError):
        status = Status.FromString(details if isinstance(details, bytes) else b"")
    read = _read(error.code(), error.details() or "", status)
    read = read if read.reason else replace(read, message=explain(read.message))
    read.__cause__ = error
    return read


def trailer(error: BaseException | None, name: str) -> str | bytes | None:
    """Return the value of a trailer, or None. Only errors of gRPC have trailers."""
    metadata: Any = error.trailing_metadata() or () if isinstance(error, grpc.RpcError) else ()
    # The metadata of asyncio looks like a mapping, and is none.
    return dict[str, "str | bytes"](list(metadata)).get(name)


def _read(code: grpc.StatusCode, message: str, status: Status) -> ContactError:
    infos, requests, waits = (list(_details(status, kind)) for kind in (ErrorInfo, BadRequest, RetryInfo))
    reason = next((info.reason for info in infos if info.domain == _DOMAIN), "")
    field = next((violation.field for request in requests for violation in request.field_violations), "")
    delay = next((-(-wait.retry_delay.ToNanoseconds() // 1_000_000) for wait in waits), 0)
    # A deadline may also end in the library of gRPC, which gives no reason.
    usual = "DEADLINE_EXCEEDED" if code is grpc.StatusCode.DEADLINE_EXCEEDED else ""
    classes = ContactError._by_reason
    kind = classes.get(reason) or classes.get(usual, ContactError)
    return kind(code, reason, field, delay / 1000 if delay > 0 else None, message)


def _details(status: Status, kind: type[Any]) -> Iterator[Any]:
    """The details of one kind that can be read."""
    for detail in status.details:
        with contextlib.suppress(DecodeError):
            if detail.Unpack(message := kind()):
                yield message
