"""Load in short slices in random order, so that a disturbance of the machine affects all servers alike."""

import collections
import random
import time
from dataclasses import dataclass

import load
from contacts import BATCH, LONGER, USUAL, Contacts

# Seconds of one slice.
SLICE = 0.35
# The number of rounds with the other servers, which are only for orientation.
PEERS_EACH = 3
# The calls of a slice by h2load, which accepts only whole seconds.
H2LOAD_CALLS = 15_000
# The second process of the reference.
AGAIN = "A/A"


@dataclass(frozen=True)
class Shape:
    name: str
    flags: tuple
    # Whether the server limits the number of calls per second.
    closed: bool = True
    contacts: Contacts = USUAL

    def run(self, server):
        return load.run(server, *self.flags, *self.contacts.flags, "--seconds", SLICE)


class ByH2load(Shape):
    def run(self, server):
        return load.by_h2load(server, H2LOAD_CALLS, *self.flags)


class Batches(Shape):
    """Batches of hits. Each contact counts as a call."""

    def run(self, server):
        flags = (*self.flags, *self.contacts.flags, "--batch", BATCH)
        result = load.run(server, *flags, "--seconds", SLICE)
        of_contact = {name: result[name] / BATCH for name in ("cpu_us", "reply_bytes")}
        return result | {"calls": result["calls"] * BATCH} | of_contact


SHAPES = (
    Shape("4 connections x 32 calls", ("--connections", 4, "--in-flight", 32)),
    Shape("1 x 64", ("--in-flight", 64)),
    Shape("32 x 1", ("--connections", 32)),
    Shape("10,000 a second, evenly", ("--connections", 4, "--rate", 10_000), closed=False),
    Shape("5,000 a second in bursts of 20", ("--rate", 5_000, "--burst", 20), closed=False),
)
BY_H2LOAD = ByH2load("4 x 32 by h2load, one contact", ("-c", "4", "-m", "32"))
BATCHES = Batches(f"{BATCH} contacts in each call, 4 x 32", SHAPES[0].flags)
LONG = tuple(Shape(f"{contacts.reply_bytes} bytes", SHAPES[0].flags, contacts=contacts) for contacts in LONGER)


@dataclass(frozen=True)
class Filled:
    """The cost of filling the cache."""

    entries: int
    cpu_us: float


def fill(service, sandbox):
    """Makes the service fetch every contact once, and returns the cost for the usual ones."""
    # The contacts for the few calls come first. They include the cost of the first calls.
    for contacts in LONGER:
        contacts.fetch(service, sandbox)
    return Filled(USUAL.count, USUAL.fetch(service, sandbox)["cpu_us"])


def measure(reference, again, service, peers, seconds):
    """The results of every slice, `[shape][server][round]`. Some rounds lack the other servers."""
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
                if shape not in (BY_H2LOAD, BATCHES):
                    shape.contacts.check(result)
    assert service.lookups()["hit"] - before == hits, "some calls under load were no hits"
    return results


def shuffled(present, reference, service):
    """The slices of one shape after the other, so that a pair is close in time, in random order."""
    groups = [[(shape, server) for server in present] for shape in SHAPES]
    groups.append([(BY_H2LOAD, reference), (BY_H2LOAD, service)])
    groups[0] += [(shape, service) for shape in (*LONG, BATCHES)]
    random.shuffle(groups)
    for group in groups:
        random.shuffle(group)
    return [pair for group in groups for pair in group]
