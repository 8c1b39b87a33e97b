"""Whom the load asks for, and how long the answers are."""

import time
from dataclasses import dataclass

import load
from servers import REPLY_BYTES

# Length of the prefix of a gRPC message.
PREFIX_BYTES = 5
# What a hit's message has beside the link, some seconds after it was fetched.
REST_BYTES = 128
# The length of a link that is longer takes one byte more to tell.
LONG_LINK_BYTES = 127
# Times are told in bytes that depend on the time, give or take.
TIMES_BYTES = 4


@dataclass(frozen=True)
class Contacts:
    first: int
    count: int
    reply_bytes: int

    @property
    def flags(self):
        return ("--contacts", self.count, "--first", self.first)

    def fetch(self, service, sandbox):
        """Has the service fetch each of them once, and returns what that took."""
        sandbox.answer_with(link(self.reply_bytes))
        return load.run(service, *self.flags, "--calls", self.count, "--in-flight", 64)

    def check(self, result):
        """The answers were as long as they were to be."""
        length = result["reply_bytes"] - PREFIX_BYTES
        assert abs(length - self.reply_bytes) <= TIMES_BYTES, f"{length} bytes, not {self.reply_bytes}"


USUAL = Contacts(15_560_000_000, 100_000, REPLY_BYTES)
LONGER = tuple(Contacts(15_570_000_000 + size * 10_000, 1_000, size) for size in (300, 450, 600))
# What real links make.
REAL = LONGER[1]


def some(count):
    """The first of the usual ones."""
    return Contacts(USUAL.first, count, USUAL.reply_bytes)


def link(reply_bytes):
    """A link that makes an answer so long, to a file whose name is as long as those of the other servers."""
    expiry = int(time.time()) + 10 * 86_400
    start, end = "https://pps.whatsapp.net/v/", f"/15560000000_1_1_n.jpg?oe={expiry:X}"
    length = reply_bytes - REST_BYTES
    length -= length > LONG_LINK_BYTES
    return f"{start}{'a' * (length - len(start + end))}{end}"
