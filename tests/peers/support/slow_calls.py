"""Callers that always have some slow calls in flight and begin quick ones, with grpc.aio and its default options.

The quick ones see to it that frames of a new call cross whatever the server sends at any moment.

Run as a program this file is the caller. It is a process of its own, since the channels of one process share their
connections.
"""

import asyncio
import collections
import itertools
import json
import subprocess
import sys
import time

if __package__:
    from . import CLIENTS, PATIENCE

# Seconds that the stand-in is told to take for a call, and that a caller waits at most.
SLOW, DEADLINE = 2.5, 15
# Quick calls in flight.
QUICK = 8
QUICK_CONTACT = "15551230001"


def slow_down(server):
    """Make all calls slow but those for one contact."""
    server.script(chat_id=QUICK_CONTACT)
    server.script(delay_ms=int(1000 * SLOW))


class SlowCalls:
    """`count` slow calls in flight, from here to `stop`, each for a contact of its own."""

    def __init__(self, addresses, count):
        self.begun, self.count = time.monotonic(), count
        self.process = subprocess.Popen(
            [sys.executable, __file__, ",".join(addresses), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(CLIENTS / "python")},
        )

    def stop(self):
        """Let the calls end and tell what came of them."""
        output, _ = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == 0
        return Result(time.monotonic() - self.begun, self.count, **json.loads(output))

    def close(self):
        self.process.kill()
        self.process.wait()


class Result:
    """What came of slow calls."""

    def __init__(self, seconds, count, calls, quick_calls, failures, slowest_s):
        self.seconds, self.count = seconds, count
        self.calls, self.quick_calls = calls, quick_calls
        self.failures, self.slowest = failures, slowest_s

    def check(self):
        """No call is lost, and there were calls enough for this to mean something."""
        assert not self.failures, self.failures
        assert self.calls >= 2 * self.count, str(self)

    def __str__(self):
        calls, lost = f"{self.calls} slow and {self.quick_calls} quick calls", sum(self.failures.values())
        return f"{calls} in {self.seconds:.0f} s, {lost} lost, slowest {self.slowest:.2f} s"


async def main(addresses, count):
    import grpc.aio

    from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
    from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

    contacts = itertools.count(15550000000)
    failures = collections.Counter()
    slowest, calls, quick_calls = 0.0, 0, 0
    stop = asyncio.Event()

    async def ask(stub, contact):
        nonlocal slowest
        begin = time.monotonic()
        try:
            await stub.GetProfilePicture(GetProfilePictureRequest(chat_id=contact), timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            failures[f"{error.code()}: {error.details()}"] += 1
        slowest = max(slowest, time.monotonic() - begin)

    async def slow(stub, index):
        nonlocal calls
        # Spread out, so that at any time a call begins and another one ends.
        await asyncio.sleep(SLOW * index / count)
        while not stop.is_set():
            await ask(stub, str(next(contacts)))
            calls += 1

    async def quick(stub):
        nonlocal quick_calls
        while not stop.is_set():
            await ask(stub, QUICK_CONTACT)
            quick_calls += 1

    # Several addresses in one target have no authority of their own; a DNS name, as outside of tests, has.
    options = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(f"ipv4:{addresses}", options=options) as channel:
        stub = ContactServiceStub(channel)
        callers = [asyncio.create_task(slow(stub, index)) for index in range(count)]
        callers += [asyncio.create_task(quick(stub)) for _ in range(QUICK)]
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await asyncio.gather(*callers)
    print(json.dumps({"calls": calls, "quick_calls": quick_calls, "failures": failures, "slowest_s": slowest}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
