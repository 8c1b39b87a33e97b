"""Counts that hardly vary: instructions and allocations, by valgrind, and system calls, by strace."""

import functools
import re
import signal
import subprocess
from dataclasses import dataclass

import load
from contacts import BATCH, USUAL, Contacts, link, some
from servers import PATIENCE, Bare, Service, Valkey, wait_until

# Calls in the smaller of two runs. The difference of the runs excludes the cost of connections and of an idle
# server.
CALLS = 1_000
# The number of contacts in a run, so that a look-up is not for the contact of the look-up before.
ASKED = some(500)
WRITES_CALLS = 20_000
# The number of batches instead of CALLS.
BATCHES = 100

# The allocators of the two sides: mimalloc, or the C library.
ALLOCATIONS = re.compile(
    r"(mi_(malloc|zalloc|calloc|realloc)\w*|malloc|calloc|realloc|posix_memalign|aligned_alloc)(@|$)"
)
# Calls within the allocator.
ALLOCATORS = re.compile(r"_?mi_|malloc|calloc|realloc|posix_memalign|aligned_alloc|_int_|tcache|ptmalloc|sysmalloc")


@dataclass(frozen=True)
class Count:
    """The counts of a run, or of one of its calls."""

    instructions: float
    allocations: float

    def __sub__(self, other):
        return Count(self.instructions - other.instructions, self.allocations - other.allocations)

    def __truediv__(self, calls):
        return Count(self.instructions / calls, self.allocations / calls)


class Callgrind:
    """A server under valgrind, which counts its instructions."""

    def __init__(self, make, directory):
        self.out = directory.with_suffix(".callgrind")
        under = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={self.out}"]
        self.server = make(directory, under=under)
        self.dumps = 0

    def per_hit(self, *flags, calls=CALLS):
        """The cost of one of many equal calls."""
        # The first run fills the cache.
        _, once, twice = [self._counted(number, ASKED, *flags) for number in (calls, calls, 2 * calls)]
        return (twice - once) / calls

    def per_contact(self, *flags):
        """The cost of a contact in one of many batches of hits."""
        return self.per_hit("--batch", BATCH, *flags, calls=BATCHES) / BATCH

    def per_miss(self, *flags):
        """The same for calls that the cache cannot answer."""
        first, counts = USUAL.first, []
        for calls in (CALLS, CALLS, 2 * CALLS):
            counts.append(self._counted(calls, Contacts(first, calls, USUAL.reply_bytes), *flags))
            first += calls
        _, once, twice = counts
        return (twice - once) / CALLS

    def _counted(self, calls, contacts, *flags):
        load.run(self.server, "--calls", calls, *flags, *contacts.flags)
        return self._dump()

    def _dump(self):
        """Instructions and allocations since the last dump."""
        self.dumps += 1
        command = ["callgrind_control", "--dump", str(self.server.process.pid)]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
        dump = self.out.with_name(f"{self.out.name}.{self.dumps}")
        wait_until("valgrind has written down what it counted", lambda: dump.exists() and "totals:" in dump.read_text())
        return read(dump.read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()


def read(dump):
    """The instructions in a dump, and the calls of an allocator from other code."""
    names, caller, callee, allocations = {}, None, None, 0

    def name(text):
        number, _, given = text.partition(" ")
        if given:
            names[number] = given
        return names[number]

    for line in dump.splitlines():
        if line.startswith("fn="):
            caller = name(line[3:])
        elif line.startswith("cfn="):
            callee = name(line[4:])
        elif line.startswith("calls=") and ALLOCATIONS.match(callee) and not ALLOCATORS.match(caller):
            allocations += int(line[6:].split()[0])
    return Count(int(re.search(r"^totals: (\d+)", dump, re.MULTILINE)[1]), allocations)


ALONE = ("--in-flight", 1)
TOGETHER = ("--in-flight", 20, "--together")


@dataclass(frozen=True)
class Hits:
    """The counts for calls one by one, and for twenty at a time."""

    alone: Count
    together: Count


def hits(make, directory):
    with Callgrind(make, directory) as counting:
        return Hits(counting.per_hit(*ALONE), counting.per_hit(*TOGETHER))


def bare_hits(directory):
    return hits(Bare, directory / "bare-counted")


def service_hits(directory, sandbox, *, production=True):
    sandbox.answer_with(link(USUAL.reply_bytes))
    make = functools.partial(Service, sandbox=sandbox, production=production)
    return hits(make, directory / f"service-counted-{production}")


def stored_hits(directory, sandbox):
    """The counts for hits of a service with a shared store."""
    sandbox.answer_with(link(USUAL.reply_bytes))
    with Valkey(directory / "valkey") as store:
        counted = hits(functools.partial(Service, sandbox=sandbox, store=store), directory / "stored-counted")
        # Those that filled the cache: a read, a turn and a write each.
        assert store.operations() >= 3 * ASKED.count, "the service went on without the store"
    return counted


def avatar_hits(directory, sandbox, *, filled):
    """The counts for hits of a service with images. `filled`: the caller gets their addresses."""
    sandbox.answer_with(link(USUAL.reply_bytes))
    make = functools.partial(Service, sandbox=sandbox, avatars=filled)
    return hits(make, directory / f"avatars-counted-{filled}")


def batch_hits(directory, sandbox):
    """The cost of a contact in a batch, twenty batches at a time."""
    sandbox.answer_with(link(USUAL.reply_bytes))
    make = functools.partial(Service, sandbox=sandbox)
    with Callgrind(make, directory / "batches-counted") as counting:
        return counting.per_contact(*TOGETHER)


def misses(directory, sandbox):
    """The cost of a call that the cache cannot answer."""
    sandbox.answer_with(link(USUAL.reply_bytes))
    make = functools.partial(Service, sandbox=sandbox)
    with Callgrind(make, directory / "misses-counted") as counting:
        return counting.per_miss(*ALONE)


WRITES = "sendto,sendmsg,writev"


def writes(server, contacts):
    """The system calls that write to sockets, for each answer, with 4 x 32 calls in flight."""
    out = server.directory.with_suffix(".strace")
    command = ["strace", "-c", "-f", "-e", f"trace={WRITES}", "-o", str(out), "-p", str(server.process.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert "attached" in (told := tracer.stderr.readline()), told
        flags = ("--connections", 4, "--in-flight", 32, "--calls", WRITES_CALLS)
        calls = load.run(server, *flags, *contacts.flags)["calls"]
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=PATIENCE)
    rows = [line.split() for line in out.read_text().splitlines()]
    return sum(int(row[3]) for row in rows if row and row[-1] in WRITES.split(",")) / calls
