"""A stream that resumes, without its calls: which contacts are missing, and when to ask for them.

Deliberately not here: reading the messages of a call, which differs between the two clients.
"""

from __future__ import annotations

import random
import re

import grpc

from hypersender.contact._call import Call
from hypersender.contact.errors import ContactError, TlsFault, trailer
from hypersender.contact.picture import Progress, Result, time_of, to_result
from hypersender.contact.v1 import contact_service_pb2 as pb

# The number of chat ids that the server accepts in one call.
_IDS_MAX = 10_000

# The calls in a row without any new result after which a stream gives up; before the first result and with a
# fault that is probably one of TLS, which hardly ever goes away by itself, it gives up earlier.
_ATTEMPTS, _ATTEMPTS_TLS = 10, 5

# Seconds: the longest wait after the first failure, and the longest of all. Each attempt without a result
# makes it twice as long; the shortest wait is half of it. The waits between ten attempts are 61 to 121 s
# together.
_BACKOFF_FIRST, _BACKOFF_LONGEST = 0.5, 30.0

# The codes of errors that are not from the service: the connection broke, or a proxy ended the stream.
_BROKEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}

# Seconds without a message after which a call counts as broken. The server sends one every 10 s.
SILENCE = 60.0


class Run:
    """One stream of a caller, over as many calls as it takes. Each position has exactly one result."""

    def __init__(self, call: Call) -> None:
        self._call = call
        # Positions without a result so far, and those that the call in progress asks for, by its indexes.
        self.missing = list(range(len(call.chat_ids)))
        self._asked: dict[int, int] = {}
        self._done = self._failed = self._failures = 0
        self._new = self._tls_fault = False
        # Seconds to wait before the next call.
        self.wait = 0.0

    def request(self) -> pb.StreamProfilePicturesRequest:
        """Return the request of the next call, which is for the first missing contacts."""
        self._asked, self._new = dict(enumerate(self.missing[:_IDS_MAX])), False
        chat_ids = [self._call.chat_ids[position] for position in self._asked.values()]
        return pb.StreamProfilePicturesRequest(**self._call.fields(chat_ids))

    def take(self, message: pb.StreamProfilePicturesResponse) -> Result | None:
        """Return the result in a message, and call on_progress for a progress."""
        if message.HasField("progress") and self._call.on_progress:
            turn, pause = (
                time_of(message.progress, "next_turn_time"),
                time_of(message.progress, "paused_until"),
            )
            self._call.on_progress(Progress(self._done, self._failed, len(self._call.chat_ids), turn, pause))
        if not message.HasField("result") or message.result.index not in self._asked:
            return None
        result = to_result(message.result, self._asked.pop(message.result.index))
        self._new = True
        self._done += 1
        self._failed += result.error is not None
        return result

    def ended(self, error: ContactError | None) -> None:
        """Take the end of a call, with its error if it has one. Raises the error if there is no next call."""
        self.missing, self.wait = [*self._asked.values(), *self.missing[_IDS_MAX:]], 0.0
        if not self.missing or (error is None and not self._asked):
            self._failures = 0
            return
        if error is None:
            error = ContactError(grpc.StatusCode.UNAVAILABLE, message="the stream ended before its last result")
        self._failures = 1 if self._new else self._failures + 1
        wait, left = wait_after(error, self._failures), self._call.left()
        self._tls_fault |= isinstance(error, TlsFault)
        attempts = _ATTEMPTS_TLS if self._tls_fault and not self._done else _ATTEMPTS
        if wait is None or self._failures >= attempts or (left is not None and wait >= left):
            raise error
        self.wait = wait
        if self._call.on_broken:
            self._call.on_broken(error, wait)


def silent() -> ContactError:
    return ContactError(grpc.StatusCode.UNAVAILABLE, message=f"the stream sent nothing for {SILENCE:g} s")


def wait_after(error: ContactError, failures: int) -> float | None:
    """Return the seconds before the next call, or None when the same call would fail again.

    `failures` is the number of calls in a row without a new result.
    """
    # Clients that a restart disconnects at the same moment must not come back together.
    backoff = min(_BACKOFF_FIRST * 2 ** min(failures - 1, 16), _BACKOFF_LONGEST)
    jitter = random.uniform(0, backoff / 2)
    if error.retry_after:
        return error.retry_after + jitter
    if error.reason:
        return backoff / 2 + jitter if error.retryable else None
    cause = error.__cause__
    pushback = trailer(cause, "grpc-retry-pushback-ms") if isinstance(cause, grpc.RpcError) else None
    if pushback is not None:
        return int(pushback) / 1000 + jitter if re.fullmatch("[0-9]{1,10}", str(pushback)) else None
    return backoff / 2 + jitter if error.code in _BROKEN else None
