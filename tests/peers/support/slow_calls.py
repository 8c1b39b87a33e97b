"""Callers with slow calls in flight that also make quick ones, with grpc.aio and its default options.

Because of the quick ones, frames of a new call cross the frames of the server at any moment.

As a program, this file is the caller. It is a separate process, because the channels of one process share
their connections.
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

# The seconds that the sandbox takes for a call, and the deadline of a caller.
SLOW, DEADLINE = 2.5, 15
# Quick calls in flight.
QUICK = 8
QUICK_CONTACT = "15551230001"


def slow_down(server):
    """Make all calls slow, except the calls for one contact."""
    server.script(chat_id=QUICK_CONTACT)
    server.script(delay_ms=int(1000 * SLOW))


class SlowCalls:
    """`count` slow calls in flight until `stop`, each for a different contact."""

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
        """Wait for the end of the calls and return the result."""
        output, _ = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == 0
        return Result(time.monotonic() - self.begun, self.count, **json.loads(output))

    def close(self):
        self.process.kill()
        self.process.wait()


class Result:
    """The result of slow calls."""

    def __init__(self, seconds, count, calls, quick_calls, failures, slowest_s):
        self.seconds, self.count = seconds, count
        self.calls, self.quick_calls = calls, quick_calls
        self.failures, self.slowest = failures, slowest_s

    def check(self):
        """Check that no call is lost, and that the number of calls is large enough to show it."""
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
        # The calls are spread out, so that at any time one begins and another one ends.
        await asyncio.sleep(SLOW * index / count)
        while not stop.is_set():
            await ask(stub, str(next(contacts)))
            calls += 1

    async def quick(stub):
        nonlocal quick_calls
        while not stop.is_set():
            await ask(stub, QUICK_CONTACT)
            quick_calls += 1

    # A target with several addresses has no authority. The DNS name of a real deployment has one.
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
