"""A refused call harms only its caller: the connection stays open, and every caller gets the true status."""

import collections
import hashlib
import threading
import time

import grpc
import pytest
from grpc import StatusCode

from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

from support import SERVICE
from support.ask import ask
from support.debian import HaproxyOfReplicas, NginxOfReplicas
from support.envoy import Envoy
from support.http2 import DATA, END_STREAM, REQUEST, Caller, begin, frame, message, request_headers
from support.relay import Relay
from support.server import Server

TOKEN, WRONG = "a-token-of-a-good-caller", "a-token-that-nobody-has"
# More calls than the faults that a connection may have in its life.
CALLS, AT_A_TIME = 400, 8
PROXY_CALLS, PROXY_AT_A_TIME = 5000, 50
# Seconds between the headers of a call and its message, unless the refusal comes first.
LATE = 0.1
FRAME_BYTES = 16 * 1024
TOO_LARGE = FRAME_BYTES + 1024
# The part of a message that shows that it is too large.
PREFIX_BYTES = 5
# Without gRPC there is only a status of HTTP.
WRONG_TYPE = 415

GOOD, BAD = (("authorization", f"Bearer {token}") for token in (TOKEN, WRONG))
LARGE = message(bytes(TOO_LARGE))
# The headers of a call, the early and the late part of its message, and its status.
REFUSALS = {
    "no token": (request_headers(), b"", REQUEST, StatusCode.UNAUTHENTICATED),
    "a wrong token": (request_headers(extra=[BAD]), b"", REQUEST, StatusCode.UNAUTHENTICATED),
    "half a message": (request_headers(extra=[BAD]), REQUEST[:7], REQUEST[7:], StatusCode.UNAUTHENTICATED),
    "an unknown method": (request_headers(f"{SERVICE}/No", extra=[GOOD]), b"", REQUEST, StatusCode.UNIMPLEMENTED),
    "an unknown service": (request_headers("no.Such/Thing", extra=[GOOD]), b"", REQUEST, StatusCode.UNIMPLEMENTED),
    "too large a message": (
        request_headers(extra=[GOOD]),
        LARGE[:PREFIX_BYTES],
        LARGE[PREFIX_BYTES:],
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    "a wrong content type": (request_headers(extra=[GOOD], content_type="text/plain"), b"", REQUEST, WRONG_TYPE),
}
# The refusals that clients cause.
KINDS = {
    "a wrong token": ({"token": WRONG}, StatusCode.UNAUTHENTICATED),
    "an unknown method": ({"token": TOKEN, "method": "Nothing"}, StatusCode.UNIMPLEMENTED),
    "too large a message": ({"token": TOKEN, "chat_id": "1" * TOO_LARGE}, StatusCode.RESOURCE_EXHAUSTED),
}


@pytest.fixture
def guarded(started, tmp_path):
    """A server with one caller in its callers file."""
    callers = tmp_path / "callers.toml"
    callers.write_text(
        f'[callers.good]\ntoken_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\ninstances = ["*"]\n'
    )
    return started(Server(tmp_path / "server", "--callers-file", str(callers)))


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_connection_outlives_refused_calls_whose_messages_come_late(kind, guarded):
    headers, early, late, code = REFUSALS[kind]
    with Caller(guarded) as caller:
        for streams in rounds(CALLS, AT_A_TIME):
            send(caller, b"".join(begin(stream, headers) + part(stream, early) for stream in streams))
            # An early refusal has arrived by now. Otherwise the server waits for the message.
            caller.wait(lambda: caller.statuses.keys() >= set(streams), seconds=LATE)
            send(caller, b"".join(rest(stream, late) for stream in streams))
        caller.wait(lambda: len(caller.statuses) == CALLS)
        number = code if code == WRONG_TYPE else code.value[0]
        assert collections.Counter(caller.statuses.values()) == {number: CALLS}
        assert caller.outcome() == "open"


def rounds(calls, at_a_time):
    """The streams of a connection, in groups."""
    streams = range(1, 2 * calls, 2)
    return [streams[at : at + at_a_time] for at in range(0, calls, at_a_time)]


def send(caller, data):
    try:
        caller.send(data)
        is_open = caller.read()
    except OSError:
        is_open = False
    assert is_open, f"{caller.outcome()} after {len(caller.statuses)} answers"


def part(stream, data):
    return frame(DATA, 0, stream, data) if data else b""


def rest(stream, data):
    """The end of a message, in frames of the largest size."""
    *first, last = (data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES))
    return b"".join(part(stream, piece) for piece in first) + frame(DATA, END_STREAM, stream, last)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", ["grpc-js", "connect-node"])
def test_a_client_sees_the_true_status_of_each_refused_call(client, kind, guarded, started, tmp_path, figure):
    relay = started(Relay(guarded.address))
    asked, code = KINDS[kind]
    answers = ask(client, relay.address, tmp_path, calls=CALLS, at_a_time=AT_A_TIME, **asked)
    codes = collections.Counter(answer.code.name for answer in answers)
    figure(f"{dict(codes)} on {relay.accepted} connections")
    assert codes == {code.name: CALLS}
    assert relay.accepted == 1


class Good:
    """A caller with a token that makes one call after the other until `stop`."""

    def __init__(self, address):
        self.codes = collections.Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(address,), daemon=True)
        self._thread.start()

    def _run(self, address):
        # This makes a separate connection, although another caller in this process has the same target.
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = ContactServiceStub(channel)
            request = GetProfilePictureRequest(chat_id="15551230001")
            while not self._stop.is_set():
                try:
                    stub.GetProfilePicture(request, timeout=10, metadata=[GOOD])
                    self.codes["OK"] += 1
                except grpc.RpcError as error:
                    self.codes[f"{error.code().name}: {error.details()}"] += 1

    def stop(self):
        self.close()
        return self.codes

    def close(self):
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("proxy", [Envoy, NginxOfReplicas, HaproxyOfReplicas])
def test_a_caller_without_a_token_takes_no_neighbour_with_it_behind(proxy, guarded, started, tmp_path, figure):
    front = started(proxy(tmp_path / "proxy", [guarded]))
    good = [started(Good(front.address)) for _ in range(4)]
    # The frames are made by hand, so that messages come shortly before, with and after their refusals.
    with Caller(front) as bad:
        for turn, streams in enumerate(rounds(PROXY_CALLS, PROXY_AT_A_TIME)):
            send(bad, b"".join(begin(stream) for stream in streams))
            time.sleep(turn % 20 / 4000)
            send(bad, b"".join(rest(stream, REQUEST) for stream in streams))
            bad.wait(lambda: bad.statuses.keys() >= set(streams))
    answers = ask("grpcio", front.address, tmp_path, calls=400)
    codes = collections.Counter(answer.code.name for answer in answers)
    found = sum((caller.stop() for caller in good), collections.Counter())
    figure(f"the good callers: {dict(found)}; the bad one: {collections.Counter(bad.statuses.values())}, {codes}")
    assert found.keys() == {"OK"}
    assert set(bad.statuses.values()) == {StatusCode.UNAUTHENTICATED.value[0]}
    assert codes == {"UNAUTHENTICATED": 400}
