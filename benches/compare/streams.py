"""The time until those contacts of a stream have arrived that the cache has, the memory of streams, and the
time of a sync that has nothing to do."""

import subprocess
import time

import load
from contacts import STREAM_CONTACTS, STREAM_HITS, STREAMS, some
from servers import LOAD_CORE, PATIENCE, TOKEN, Service, pinned, program

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


def second_sync(directory, sandbox):
    """The seconds of a sync that follows directly on another one."""
    first, contacts = some(1).first, directory / "contacts.csv"
    numbers = (str(first + number) for number in range(STREAM_CONTACTS))
    contacts.write_text("\n".join(["chat_id", *numbers]))
    with Service(directory / "synced", sandbox) as service:
        flags = ["--address", service.address, "--out", str(directory / "changes.ndjson")]
        command = pinned(LOAD_CORE, [program("HYPERSENDER_GRPC_BIN"), "sync", str(contacts), *flags])
        for _ in range(2):
            before, begin = service.lookups(), time.monotonic()
            run = subprocess.run(command, env={"HYPERSENDER_GRPC_TOKEN": TOKEN}, stderr=subprocess.PIPE, timeout=PATIENCE)
            seconds = time.monotonic() - begin
            assert run.returncode == 0, run.stderr
        assert service.lookups() == before, "the second sync has looked up contacts"
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
