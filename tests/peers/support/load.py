"""Steady callers. They are separate processes, so that a test does not slow them down.

As a program, this file is the caller in Python. The caller in Go is load/main.go. Both have the same flags.
"""

import argparse
import collections
import json
import subprocess
import sys
import threading
import time

if __package__:
    from . import CLIENTS, PATIENCE, tool

SERVICE_CONFIG = "service_config.json"
# The first call must begin long before a test acts on the server.
RATE = 100


class Load:
    """Calls at a steady rate until `stop`."""

    def __init__(self, addresses, chat_id, *, python=False, service_config=False, rate=RATE):
        program = [sys.executable, __file__] if python else [tool("load")]
        flags = ["--addresses", ",".join(addresses), "--chat-id", chat_id, "--rate", str(rate)]
        if service_config:
            flags += ["--service-config", str(CLIENTS / SERVICE_CONFIG)]
        self.chat_id = chat_id
        self.begun = time.monotonic()
        self.rate = rate
        self.process = subprocess.Popen(
            [*program, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(CLIENTS / "python")},
        )

    def stop(self):
        """Wait for the end of the calls and return the result."""
        output, _ = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == 0
        return Result(seconds=time.monotonic() - self.begun, rate=self.rate, **json.loads(output))

    def close(self):
        self.process.kill()
        self.process.wait()


class Result:
    """The result of a load."""

    def __init__(self, seconds, rate, calls, attempts, failures, slowest_s):
        self.seconds, self.rate = seconds, rate
        self.calls, self.attempts, self.failures, self.slowest = calls, attempts, failures, slowest_s

    def check(self):
        """Check that no call failed, and that the number of calls is large enough to show it."""
        assert not self.failures, self.failures
        assert self.calls > self.seconds * self.rate / 4, str(self)

    def __str__(self):
        failed = sum(self.failures.values())
        retries = "" if self.attempts is None else f", {self.attempts - self.calls} retries"
        return f"{self.calls} calls in {self.seconds:.0f} s, {failed} failed{retries}, slowest {self.slowest:.2f} s"


def main():
    import grpc

    from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
    from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

    parser = argparse.ArgumentParser()
    parser.add_argument("--addresses", required=True)
    parser.add_argument("--chat-id", required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--service-config")
    parser.add_argument("--limit", type=float, default=180)
    flags = parser.parse_args()

    # A target with several addresses has no authority. The DNS name of a real deployment has one.
    options = [("grpc.default_authority", "localhost")]
    if flags.service_config:
        with open(flags.service_config) as text:
            options.append(("grpc.service_config", text.read()))
    request = GetProfilePictureRequest(chat_id=flags.chat_id)
    end = time.monotonic() + flags.limit
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    lock = threading.Lock()
    ended = threading.Semaphore(0)
    failures = collections.Counter()
    begun = slowest = 0

    def tell(begin, call):
        nonlocal slowest
        with lock:
            slowest = max(slowest, time.monotonic() - begin)
            if call.code() != grpc.StatusCode.OK:
                failures[f"{call.code()}: {call.details()}"] += 1
        ended.release()

    with grpc.insecure_channel(f"ipv4:{flags.addresses}", options=options) as channel:
        stub = ContactServiceStub(channel)
        while not stop.wait(1 / flags.rate) and time.monotonic() < end:
            call = stub.GetProfilePicture.future(request, timeout=10)
            call.add_done_callback(lambda call, begin=time.monotonic(): tell(begin, call))
            begun += 1
        for _ in range(begun):
            ended.acquire()
    # grpcio does not report attempts.
    print(json.dumps({"calls": begun, "attempts": None, "failures": failures, "slowest_s": slowest}))


if __name__ == "__main__":
    main()
