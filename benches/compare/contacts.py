"""The contacts that the load asks for, and the length of the answers."""

import time
from dataclasses import dataclass

import load
from servers import REPLY_BYTES

# Length of the prefix of a gRPC message.
PREFIX_BYTES = 5
# The bytes of a message without the link, some seconds after the fetch.
REST_BYTES = 128
# The length of a longer link takes one byte more.
LONG_LINK_BYTES = 127
# The number of bytes of a timestamp depends on the time.
TIMES_BYTES = 4
# The number of contacts in a batch.
BATCH = 100
# The number of contacts of a stream, and of those that the cache has.
STREAM_CONTACTS, STREAM_HITS = 10_000, 9_000


@dataclass(frozen=True)
class Contacts:
    first: int
    count: int
    reply_bytes: int

    @property
    def flags(self):
        return ("--contacts", self.count, "--first", self.first)

    def fetch(self, service, sandbox):
        """Makes the service fetch each contact once, and returns the cost."""
        sandbox.answer_with(link(self.reply_bytes))
        return load.run(service, *self.flags, "--calls", self.count, "--in-flight", 64)

    def check(self, result):
        """Checks the length of the answers."""
        length = result["reply_bytes"] - PREFIX_BYTES
        assert abs(length - self.reply_bytes) <= TIMES_BYTES, f"{length} bytes, not {self.reply_bytes}"


USUAL = Contacts(15_560_000_000, 100_000, REPLY_BYTES)
LONGER = tuple(Contacts(15_570_000_000 + size * 10_000, 1_000, size) for size in (300, 450, 600))
# The length of answers with real links.
REAL = LONGER[1]


# For each stream its own contacts, since it fetches those that the cache lacks.
STREAMS = tuple(Contacts(15_580_000_000 + number * 100_000, STREAM_HITS, REPLY_BYTES) for number in range(7))


def some(count):
    """The first contacts of the usual ones."""
    return Contacts(USUAL.first, count, USUAL.reply_bytes)


def link(reply_bytes):
    """A link that makes an answer so long, to a file whose name is as long as those of the other servers."""
    expiry = int(time.time()) + 10 * 86_400
    start, end = "https://pps.whatsapp.net/v/", f"/15560000000_1_1_n.jpg?oe={expiry:X}"
    length = reply_bytes - REST_BYTES
    length -= length > LONG_LINK_BYTES
    return f"{start}{'a' * (length - len(start + end))}{end}"
