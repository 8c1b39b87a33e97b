"""Idle, frozen and vanished clients do not delay a drain. Calls in flight do, until their own deadline."""

import itertools
import os
import signal
import subprocess
import sys
import time

import grpc
import pytest

from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

from support import CLIENTS, wait_until
from support.http2 import PREFACE, Caller, call, settings, window_update
from support.server import Server

# Seconds. A client without any answer may add 3 to the wait. With 5 more for a busy machine, this is still
# far below the limit of the drain.
DRAIN_WAIT, DRAIN_TIMEOUT = 1, 20
LIMIT = DRAIN_WAIT + 3 + 5

ONE_CALL = """
import sys, grpc
from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub
with grpc.insecure_channel(sys.argv[1]) as channel:
    ContactServiceStub(channel).GetProfilePicture(GetProfilePictureRequest(chat_id="15551230001"), timeout=10)
    print("answered", flush=True)
    sys.stdin.read()
"""


class IdleGrpcio:
    """A client without calls. Between two calls grpcio reads nothing and answers no PING."""

    def __init__(self, server):
        # This makes a separate connection, although other callers in this process have the same target.
        self.channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        ContactServiceStub(self.channel).GetProfilePicture(GetProfilePictureRequest(chat_id="15551230001"), timeout=10)

    def close(self):
        self.channel.close()


class Frozen:
    """A client whose process the operating system has stopped."""

    def __init__(self, server):
        self.process = subprocess.Popen(
            [sys.executable, "-c", ONE_CALL, server.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(CLIENTS / "python")},
        )
        assert self.process.stdout.readline() == b"answered\n"
        self.process.send_signal(signal.SIGSTOP)
        wait_until("the client has stopped", lambda: os.waitpid(self.process.pid, os.WUNTRACED | os.WNOHANG)[0])

    def close(self):
        self.process.kill()
        self.process.wait()


class Silent(Caller):
    """A peer that makes a call, unless `calls` is false, and then neither reads nor writes."""

    def __init__(self, server, calls=True):
        super().__init__(server, PREFACE + settings() + (call(1) if calls else b""))
        assert self.wait(lambda: self.statuses if calls else self.settled)

    def close(self):
        self.socket.close()


def silent_without_a_call(server):
    return Silent(server, calls=False)


@pytest.mark.parametrize("client, count", [(IdleGrpcio, 20), (Frozen, 3), (Silent, 20), (silent_without_a_call, 20)])
def test_a_drain_does_not_wait_for_a_client_without_calls(client, count, started, tmp_path, figure):
    flags = ("--drain-wait", f"{DRAIN_WAIT}s", "--drain-timeout", f"{DRAIN_TIMEOUT}s")
    server = started(Server(tmp_path / "server", *flags))
    for _ in range(count):
        started(client(server))
    seconds = server.drained()
    figure(f"the drain took {seconds:.2f} s")
    assert seconds < LIMIT


def test_a_drain_waits_for_a_call_beside_clients_without_calls(started, tmp_path, figure):
    """The idle connections end while a call is in flight, and the call gets its answer."""
    server = started(Server(tmp_path / "server", "--drain-wait", "0s", "--drain-timeout", f"{DRAIN_TIMEOUT}s"))
    server.script(chat_id="15550000000", delay_ms=4500)
    for client in (IdleGrpcio, Silent, silent_without_a_call):
        started(client(server))
    with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = ContactServiceStub(channel)
        slow = stub.GetProfilePicture.future(GetProfilePictureRequest(chat_id="15550000000"), timeout=10)
        wait_until("the call is in flight", lambda: "15550000000" in server.asked())
        begin = time.monotonic()
        server.terminate()
        assert slow.result().profile_picture.url
        server.wait()
    figure(f"the drain took {time.monotonic() - begin:.2f} s")
    assert time.monotonic() - begin < 4.5 + 3 + 5


def test_calls_that_meet_the_end_are_answered_or_safe_to_repeat(started, tmp_path, figure):
    """A client answers no PING and keeps calling until the end of its connection."""
    server = started(Server(tmp_path / "server", "--drain-wait", "0s", "--drain-timeout", f"{DRAIN_TIMEOUT}s"))
    # The window has room for all answers, because the client never opens it again.
    with Caller(server, PREFACE + settings() + window_update(0, 1 << 30)) as caller:
        assert caller.wait(lambda: caller.settled)
        begin = time.monotonic()
        server.terminate()
        sent = []
        for stream in itertools.count(1, 2):
            assert time.monotonic() - begin < LIMIT, "the server never lets go"
            sent.append(stream)
            try:
                caller.send(call(stream))
            except OSError:
                break
            # The number of calls in flight is far below the limit of the server.
            caller.wait(lambda: len(sent) - len(caller.statuses) < 8, seconds=0.05)
            if caller.closed:
                break
        caller.wait(lambda: caller.closed)
    server.wait()
    last = caller.last_streams[-1]
    figure(f"{len(sent)} calls sent, the last stream id is {last}")
    assert not [stream for stream in sent if stream <= last and caller.statuses.get(stream) != 0]
