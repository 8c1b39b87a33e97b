"""Stream the profile pictures of any number of contacts, and resume the streams that break.

Deliberately not here: CSV, files and downloads, which are in examples/sync_contacts.py.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hypersender.contact.v1 import contact_service_pb2 as contact
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

# The number of chat ids that the server accepts in one stream. `stream` makes several calls for more.
IDS_MAX = 10_000

# Seconds: the longest wait after the first failure, and the longest of all. Each attempt without a result
# makes it twice as long; the shortest wait is half of it. The waits between ten attempts are 61 to 121 s
# together.
BACKOFF_FIRST = 0.5
BACKOFF_LONGEST = 30.0

# The domain of the reasons of the service. A proxy may give reasons of its own.
DOMAIN = "hypersender-grpc"

# The codes of errors that are not from the service: the connection broke, or a proxy ended the stream.
BROKEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


class StreamBroken(grpc.RpcError):
    """A call that the client itself found to be broken."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return str(self)

    def trailing_metadata(self) -> tuple:
        return ()


@dataclass(frozen=True)
class Failure:
    """The parts of an error that a program can act on."""

    code: grpc.StatusCode
    # That of ErrorInfo, such as NOT_ON_WHATSAPP. Empty for an error that is not from the service, such as a
    # refused connection.
    reason: str
    # Seconds after which to ask again, from RetryInfo; 0 if there is none.
    wait: float
    # For people. It contains no chat id and no link.
    message: str

    @property
    def again(self) -> bool:
        """Whether the same look-up may succeed later: there is a wait, or the time was too short."""
        return self.wait > 0 or self.code == grpc.StatusCode.DEADLINE_EXCEEDED

    def __str__(self) -> str:
        reason = f" {self.reason}" if self.reason else ""
        wait = f", try again in {self.wait:g}s" if self.wait else ""
        message = f": {self.message}" if self.message else ""
        return f"{self.code.name}{reason}{wait}{message}"


def explain(failed: grpc.RpcError | status_pb2.Status) -> Failure:
    """Read the error of a call, or that of one contact in a batch or a stream (`result.error`)."""
    if isinstance(failed, grpc.RpcError):
        code, message = failed.code(), failed.details() or ""
        status = rpc_status.from_call(failed)
    else:
        code = next((code for code in grpc.StatusCode if code.value[0] == failed.code), grpc.StatusCode.UNKNOWN)
        status, message = failed, failed.message
    reason, wait = "", 0.0
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            if info.domain == DOMAIN:
                reason = info.reason
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            wait = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToMicroseconds() / 1e6
    return Failure(code, reason, wait, message)


def stream(
    stub: ContactServiceStub,
    request: contact.StreamProfilePicturesRequest,
    *,
    timeout: float | None = None,
    metadata: Sequence[tuple[str, str]] | None = None,
    attempts: int = 10,
    silence: float = 60,
    on_broken: Callable[[Failure, float], None] | None = None,
) -> Iterator[contact.StreamProfilePicturesResponse]:
    """Look up all chat ids of `request`, of which there may be any number, and yield the server's messages.

    Each id has exactly one result. Calls that break are followed by calls for the missing ids, after the wait
    that the server asks for or a growing one. Index and progress are those of the whole request.

    `timeout` is in seconds, for all calls together. `attempts` is the number of calls in a row without any
    new result after which to give up. A call counts as broken when no message came for `silence` seconds; the
    server sends one every 10 s. `on_broken` gets the error of a call that broke and the seconds until the
    next one.

    Raises grpc.RpcError at the timeout, when the server says that the same call fails again, and when it
    gives up. The results before it stay valid.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    run = _Run(stub, request, metadata, silence)
    failures = 0
    while run.missing:
        before = len(run.missing)
        try:
            yield from run.call(None if timeout is None else max(0, end - time.monotonic()))
        except grpc.RpcError as error:
            if not run.missing:
                return
            failures = 1 if len(run.missing) < before else failures + 1
            wait = _pause(error, failures)
            if wait is None or failures >= attempts or time.monotonic() + wait >= end:
                raise
            if on_broken:
                on_broken(explain(error), wait)
            time.sleep(wait)
        else:
            failures = 0


class _Run:
    def __init__(self, stub, request, metadata, silence):
        self.stub, self.request, self.metadata, self.silence = stub, request, metadata, silence
        # Positions in request.chat_ids without a result so far.
        self.missing = list(range(len(request.chat_ids)))
        self.done = self.failed = 0

    def call(self, timeout):
        """Ask for the first missing ids and yield what arrives. Ends when all of them have a result."""
        asked = self.missing[:IDS_MAX]
        answered = set()
        call = self.stub.StreamProfilePictures(self._part(asked), timeout=timeout, metadata=self.metadata)
        try:
            for message in _watched(call, self.silence):
                if message.HasField("result"):
                    result = message.result
                    if not 0 <= result.index < len(asked) or result.index in answered:
                        continue
                    answered.add(result.index)
                    result.index = asked[result.index]
                    self.done += 1
                    self.failed += result.HasField("error")
                elif message.HasField("progress"):
                    progress = message.progress
                    progress.done, progress.failed, progress.total = self.done, self.failed, len(self.request.chat_ids)
                yield message
        finally:
            call.cancel()
            left = [position for index, position in enumerate(asked) if index not in answered]
            self.missing = left + self.missing[len(asked) :]
        if left:
            raise StreamBroken("the stream ended before its last result")

    def _part(self, positions):
        """The request for some positions."""
        ids = [self.request.chat_ids[position] for position in positions]
        known = self.request.known_fingerprints
        part = contact.StreamProfilePicturesRequest(
            instance=self.request.instance,
            chat_ids=ids,
            known_fingerprints={chat_id: known[chat_id] for chat_id in ids if chat_id in known},
        )
        if self.request.HasField("cache_control"):
            part.cache_control.CopyFrom(self.request.cache_control)
        return part


def _watched(call, silence):
    """The messages of a call, which is ended when it is silent."""
    # The time that the reader of the messages takes for itself does not count.
    heard = time.monotonic()
    ended, silent = threading.Event(), threading.Event()

    def watch():
        while not ended.wait(min(1, silence / 4)):
            if time.monotonic() - heard > silence:
                silent.set()
                call.cancel()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        for message in call:
            heard = math.inf
            yield message
            heard = time.monotonic()
    except grpc.RpcError as error:
        if silent.is_set():
            raise StreamBroken(f"the stream sent nothing for {silence:g} s") from error
        raise
    finally:
        ended.set()


def _pause(error: grpc.RpcError, failures: int) -> float | None:
    """Return the seconds before the next call, or None when the same call would fail again."""
    # Clients that a restart disconnects at the same moment must not come back together.
    backoff = min(BACKOFF_FIRST * 2 ** min(failures - 1, 16), BACKOFF_LONGEST)
    jitter = random.uniform(0, backoff / 2)
    failure = explain(error)
    if failure.wait:
        return failure.wait + jitter
    if failure.reason:
        return backoff / 2 + jitter if failure.again else None
    if pushback := dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms"):
        milliseconds = int(pushback) if str(pushback).lstrip("-").isdigit() else -1
        return milliseconds / 1000 + jitter if milliseconds >= 0 else None
    return backoff / 2 + jitter if failure.code in BROKEN else None
