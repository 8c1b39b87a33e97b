"""A stream that resumes, without its calls: which contacts are missing, and when to ask for them.

Deliberately not here: reading the messages of a call, which differs between the two clients.
"""

from __future__ import annotations

import random
import re

import grpc

from hypersender.contact._call import Call
from hypersender.contact._error import ContactError, trailer
from hypersender.contact.picture import Progress, Result, time_of, to_result
from hypersender.contact.v1 import contact_service_pb2 as pb

# The number of chat ids that the server accepts in one call.
_IDS_MAX = 10_000

# The calls in a row without any new result after which a stream gives up.
_ATTEMPTS = 10
# The same for a fault of TLS before the first result.
_ATTEMPTS_TLS = 3

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
    """One stream of a caller, over as many calls as it takes. Each position has exactly one result.

    A client makes calls while `missing` is not empty. Before each one it waits for `wait` seconds, and then
    passes to `take` whatever it reads, while `reading` holds.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        # Positions without a result so far, and those that the call in progress asks for, by its indexes.
        self.missing = list(range(len(call.chat_ids)))
        self._asked: dict[int, int] = {}
        self._done = self._failed = self._failures = 0
        self.reading, self.wait = False, 0.0

    def request(self) -> pb.StreamProfilePicturesRequest:
        """Return the request of the next call, which is for the first missing contacts."""
        self._asked, self.reading = dict(enumerate(self.missing[:_IDS_MAX])), True
        chat_ids = [self.call.chat_ids[position] for position in self._asked.values()]
        return self.call.stream(chat_ids)

    def take(self, read: pb.StreamProfilePicturesResponse | ContactError | None) -> Result | None:
        """Take a message, the error that ended the call, or None for its end. Return a new result.

        Raises the error if the stream cannot go on.
        """
        if not isinstance(read, pb.StreamProfilePicturesResponse):
            self._ended(read)
            return None
        if read.HasField("progress") and self.call.on_progress:
            times = time_of(read.progress, "next_turn_time"), time_of(read.progress, "paused_until")
            self.call.on_progress(Progress(self._done, self._failed, len(self.call.chat_ids), *times))
        if not read.HasField("result") or read.result.index not in self._asked:
            return None
        position = self._asked.pop(read.result.index)
        result = to_result(read.result, position, self.call.chat_ids[position])
        self._done, self._failed = self._done + 1, self._failed + (result.error is not None)
        self._failures = 0
        return result

    def _ended(self, error: ContactError | None) -> None:
        self.missing, self.reading, self.wait = [*self._asked.values(), *self.missing[_IDS_MAX:]], False, 0.0
        if not self.missing or (error is None and not self._asked):
            return
        if error is None:
            error = ContactError(grpc.StatusCode.UNAVAILABLE, message="the stream ended before its last result")
        self._failures += 1
        wait, left = wait_after(error, self._failures), self.call.left()
        # Without any result so far, a fault of TLS is rather a wrong option than a passing fault.
        is_tls = not self._done and not error.reason and error.message.startswith("the server")
        attempts = _ATTEMPTS_TLS if is_tls else _ATTEMPTS
        if wait is None or self._failures >= attempts or (left is not None and wait >= left):
            raise error
        self.wait = wait
        if self.call.on_broken:
            self.call.on_broken(error, wait)


def silent() -> ContactError:
    """The error of a call that sent nothing for too long."""
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
    pushback = trailer(error.__cause__, "grpc-retry-pushback-ms")
    if pushback is not None:
        return int(pushback) / 1000 + jitter if re.fullmatch("[0-9]{1,10}", str(pushback)) else None
    return backoff / 2 + jitter if error.code in _BROKEN else None
