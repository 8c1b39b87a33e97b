"""The time until those contacts of a stream have arrived that the cache has, and the memory of streams."""

import load
from contacts import STREAM_CONTACTS, STREAM_HITS, STREAMS, some
from servers import Service

# Streams in progress, as many as the server allows by default.
OPEN = 256
# Contacts of these streams that are cached. Their results show that a stream has looked at its contacts.
CACHED = 20
# The other contacts wait for their turns.
SLOW = ("--rate", "1", "--burst", str(CACHED), "--streams-per-instance", str(OPEN))


def arrivals(directory, sandbox):
    """The seconds of each stream, from the first byte of its connection. The other contacts are mixed in."""
    with Service(directory / "streamed", sandbox) as service:
        return [arrival(service, sandbox, contacts) for contacts in STREAMS]


def arrival(service, sandbox, contacts):
    contacts.fetch(service, sandbox)
    before = service.lookups().get("hit", 0)
    asked = ("--contacts", STREAM_CONTACTS, "--first", contacts.first)
    seconds = load.stream(service, *asked, "--stream", STREAM_HITS)
    hits = service.lookups().get("hit", 0) - before
    assert hits == STREAM_HITS, f"{hits} contacts of the stream were hits"
    return seconds


def mebibytes(directory, sandbox):
    """The memory of the most streams at a time, each for the most contacts, in MiB."""
    contacts = some(CACHED)
    with Service(directory / "many-streams", sandbox, production=False, limits=SLOW) as service:
        contacts.fetch(service, sandbox)
        before = service.resident_bytes()
        asked = ("--contacts", STREAM_CONTACTS, "--first", contacts.first)
        with load.held(service, *asked, "--stream", CACHED, "--connections", OPEN):
            return (service.resident_bytes() - before) / 2**20
