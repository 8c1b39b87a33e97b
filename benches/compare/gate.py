"""Compares the cost of a hit and of streams with limits.toml, in values that the load hardly changes."""

import contextlib
import tomllib

import counts
import streams
from contacts import REAL, Contacts, some
from servers import HERE, Sandbox, Service

LIMITS = HERE / "limits.toml"


def check(directory):
    """Returns the exit code: 1 if a count is over its limit."""
    measured = measure(directory)
    limits = tomllib.loads(LIMITS.read_text())
    assert measured.keys() == limits.keys(), f"{LIMITS} has other names than are measured"
    over = []
    print(f"{'':<36} {'measured':>9} {'expected':>9} {'at most':>9}")
    for name, value in measured.items():
        expected, margin = limits[name]["expected"], limits[name]["margin"]
        print(f"{name:<36} {value:>9.3f} {expected:>9.3f} {expected + margin:>9.3f}")
        if value > expected + margin:
            over.append(name)
        elif value < expected - margin:
            print(f"  better than expected: lower it in {LIMITS.name}")
    for name in over:
        print(f"OVER ITS LIMIT: {name}. It costs more than it did; see benches/compare/limits.toml")
    return 1 if over else 0


def over(hits, others):
    """The ratio of the instructions, one call at a time or twenty together, whichever is more."""
    return max(
        hits.alone.instructions / others.alone.instructions, hits.together.instructions / others.together.instructions
    )


def measure(directory):
    bare = counts.bare_hits(directory)
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(directory / "sandbox"))
        service = counts.service_hits(directory, sandbox)
        stored = counts.stored_hits(directory, sandbox)
        withheld, filled = [counts.avatar_hits(directory, sandbox, filled=filled) for filled in (False, True)]
        batched = counts.batch_hits(directory, sandbox)
        writing = stack.enter_context(Service(directory / "service", sandbox))
        few, real = some(counts.ASKED.count), Contacts(REAL.first, counts.ASKED.count, REAL.reply_bytes)
        for contacts in (few, real):
            contacts.fetch(writing, sandbox)
        mebibytes = streams.mebibytes(directory, sandbox)
        written = [counts.writes(writing, contacts) for contacts in (few, real)]
    return {
        "instructions_alone_over_bare": service.alone.instructions / bare.alone.instructions,
        "instructions_together_over_bare": service.together.instructions / bare.together.instructions,
        "allocations_alone": service.alone.allocations,
        "allocations_together": service.together.allocations,
        "instructions_stored_over_hit": over(stored, service),
        "instructions_avatars_over_hit": over(withheld, service),
        "instructions_avatar_url_over_hit": over(filled, service),
        "allocations_avatar_url": filled.together.allocations,
        "instructions_batched_over_hit": batched.instructions / service.together.instructions,
        "allocations_batched": batched.allocations,
        "mebibytes_of_256_streams": mebibytes,
        "writes_per_reply": written[0],
        "writes_per_real_reply": written[1],
    }
