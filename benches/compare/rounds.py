"""Load in short slices, in an order of its own in each round, so that what disturbs the machine disturbs all alike."""

import collections
import random
import time
from dataclasses import dataclass

import load
from contacts import LONGER, USUAL, Contacts

# Seconds of one slice.
SLICE = 0.35
# The peers are here for orientation, and cost time.
PEERS_EACH = 3
# Calls of a slice by h2load, which takes no fraction of a second.
H2LOAD_CALLS = 15_000
# The second process of the reference's kind.
AGAIN = "A/A"


@dataclass(frozen=True)
class Shape:
    name: str
    flags: tuple
    # Whether the number of calls a second is the server's doing.
    closed: bool = True
    contacts: Contacts = USUAL

    def run(self, server):
        return load.run(server, *self.flags, *self.contacts.flags, "--seconds", SLICE)


class ByH2load(Shape):
    def run(self, server):
        return load.by_h2load(server, H2LOAD_CALLS, *self.flags)


SHAPES = (
    Shape("4 connections x 32 calls", ("--connections", 4, "--in-flight", 32)),
    Shape("1 x 64", ("--in-flight", 64)),
    Shape("32 x 1", ("--connections", 32)),
    Shape("10,000 a second, evenly", ("--connections", 4, "--rate", 10_000), closed=False),
    Shape("5,000 a second in bursts of 20", ("--rate", 5_000, "--burst", 20), closed=False),
)
BY_H2LOAD = ByH2load("4 x 32 by h2load, one contact", ("-c", "4", "-m", "32"))
LONG = tuple(Shape(f"{contacts.reply_bytes} bytes", SHAPES[0].flags, contacts=contacts) for contacts in LONGER)


@dataclass(frozen=True)
class Filled:
    """What it took to fill the cache."""

    entries: int
    cpu_us: float


def fill(service, sandbox):
    """Has the service fetch every contact once, and returns what the usual ones took."""
    # First those whose number is small, with what the first calls set up.
    for contacts in LONGER:
        contacts.fetch(service, sandbox)
    return Filled(USUAL.count, USUAL.fetch(service, sandbox)["cpu_us"])


def measure(reference, again, service, peers, seconds):
    """The results of every slice: `[shape][server][round]`. The peers are in some rounds only."""
    names = {server: server.name for server in (reference, service, *peers)} | {again: AGAIN}
    for server in names:
        load.check(server)
    results = collections.defaultdict(lambda: collections.defaultdict(dict))
    before, hits = service.lookups()["hit"], 0
    end = time.monotonic() + seconds
    for number in range(1_000_000):
        if time.monotonic() > end:
            break
        present = [reference, again, service, *(peers if number % PEERS_EACH == 0 else ())]
        for shape, server in shuffled(present, reference, service):
            result = shape.run(server)
            results[shape.name][names[server]][number] = result
            if server is service:
                hits += result["calls"]
                if shape is not BY_H2LOAD:
                    shape.contacts.check(result)
    assert service.lookups()["hit"] - before == hits, "some calls under load were no hits"
    return results


def shuffled(present, reference, service):
    """One shape after the other, since a pair is to be close in time; shapes, and servers in them, in any order."""
    groups = [[(shape, server) for server in present] for shape in SHAPES]
    groups.append([(BY_H2LOAD, reference), (BY_H2LOAD, service)])
    groups[0] += [(shape, service) for shape in LONG]
    random.shuffle(groups)
    for group in groups:
        random.shuffle(group)
    return [pair for group in groups for pair in group]
