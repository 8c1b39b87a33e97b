"""Compares the service with a bare tonic server, for `make bench-speed` and `make bench-gate`."""

import argparse
import contextlib
import shutil
import tempfile
from pathlib import Path

import counts
import gate
import goals
import notes
import rounds
import servers
import streams
import tables
from contacts import REAL, USUAL
from servers import PATH

BENCHES = Path(__file__).resolve().parent.parent
# Programs, and the Debian packages that have them.
GATE_TOOLS = {"strace": "strace", "taskset": "util-linux", "valgrind": "valgrind"}
SPEED_TOOLS = {"h2load": "nghttp2-client", "nginx": "nginx-light"}
# Seconds of load in total. With the start of the servers, the fill of the cache and the counts, a run takes
# less than five minutes.
SECONDS = 170


def speed(directory, seconds):
    """The headline, and the whole comparison with its goals, as Markdown."""
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        sandbox = start(servers.Sandbox(directory / "sandbox"))
        service = start(servers.Service(directory / "service", sandbox))
        filled = rounds.fill(service, sandbox)
        bare, again = start(servers.Bare(directory / "bare")), start(servers.Bare(directory / "again"))
        peers = [start(kind(directory / kind.__name__)) for kind in (servers.Go, servers.Aio, servers.Nginx)]
        results = rounds.measure(bare, again, service, peers, seconds)
        writes = {bare.name: counts.writes(bare, USUAL)}
        writes |= {contacts.reply_bytes: counts.writes(service, contacts) for contacts in (USUAL, REAL)}
        counted = (
            counts.bare_hits(directory),
            counts.service_hits(directory, sandbox),
            counts.service_hits(directory, sandbox, production=False),
            counts.misses(directory, sandbox),
            counts.batch_hits(directory, sandbox),
        )
        arrivals, second_sync = streams.arrivals(directory, sandbox), streams.second_sync(directory, sandbox)
    comparison = [
        tables.speed(results, filled, counted, writes),
        goals.goals(results, counted, writes, arrivals, second_sync),
    ]
    return goals.headline(results, counted), "\n\n".join(comparison)


def lacking(tools):
    return [package for tool, package in tools.items() if not shutil.which(tool, path=PATH)]


def main():
    parser = argparse.ArgumentParser(prog="compare", description=__doc__)
    what = "the comparison as tables; or what may not grow, against its limits"
    parser.add_argument("what", choices=["speed", "gate"], help=what)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to put load on, in all")
    note = "write the headline into README.md and the tables into benches/README.md, too"
    parser.add_argument("--note", action="store_true", help=note)
    flags = parser.parse_args()
    if packages := lacking(GATE_TOOLS if flags.what == "gate" else GATE_TOOLS | SPEED_TOOLS):
        parser.error(f"this needs the Debian packages {' '.join(packages)}")
    with tempfile.TemporaryDirectory() as directory:
        if flags.what == "gate":
            return gate.check(Path(directory))
        texts = speed(Path(directory), flags.seconds)
    print(*texts, sep="\n\n")
    if flags.note:
        for page, text in zip((BENCHES.parent / "README.md", BENCHES / "README.md"), texts):
            notes.write(page, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
