"""The time until those contacts of a stream have arrived that the cache has."""

import load
from contacts import STREAM_CONTACTS, STREAM_HITS, STREAMS
from servers import Service


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
