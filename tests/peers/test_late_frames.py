"""Frames that cross the last GOAWAY of the server belong to repeated calls and end no other call."""

import time

import pytest

from support.http2 import (
    ACK,
    DATA,
    END_STREAM,
    PING,
    PREFACE,
    PRIORITY,
    REQUEST,
    Caller,
    begin,
    call,
    frame,
    message,
    reset,
    settings,
    window_update,
)
from support.server import Server
from support.slow_calls import SlowCalls, slow_down

IN_FLIGHT = 16
# With these flags every call asks the sandbox: there is no cache and no rate limit.
UNHINDERED = ("--cache-entries", "0", "--rate", "0")
# A GetProfilePictureRequest with a chat_id that the sandbox answers slowly.
SLOW_REQUEST = message(b"\x12\x0b15551230011")

BODY = frame(DATA, END_STREAM, 3, REQUEST)
# The frames that a peer writes at once after the acknowledgement, before it has read the last GOAWAY.
LATE = {
    "nothing": b"",
    "a whole call": call(3),
    "a call with WINDOW_UPDATE": begin(3) + window_update(3, 5) + BODY,
    "a call with WINDOW_UPDATE first and last": begin(3) + window_update(3, 5) + BODY + window_update(3, 5),
    "a call with RST_STREAM": begin(3) + reset(3),
    "a call with WINDOW_UPDATE and RST_STREAM": begin(3) + window_update(3, 5) + reset(3),
    "a call with PRIORITY": begin(3) + frame(PRIORITY, 0, 3, bytes(5)) + BODY,
    "three calls with WINDOW_UPDATE": b"".join(
        begin(stream) + window_update(stream, 5) + frame(DATA, END_STREAM, stream, REQUEST) for stream in (3, 5, 7)
    ),
}


def slow_call(server):
    opening = PREFACE + settings() + begin(1) + frame(DATA, END_STREAM, 1, SLOW_REQUEST)
    return Caller(server, opening)


@pytest.mark.parametrize("ending", ["drain", "age"])
def test_a_call_in_flight_is_answered_whatever_crosses_the_last_goaway(ending, started, tmp_path):
    flags = ("--drain-wait", "0s") if ending == "drain" else ("--connection-age", "1s")
    server = started(Server(tmp_path / "server", *UNHINDERED, *flags))
    callers = {late: slow_call(server) for late in LATE}
    # The sandbox has received all calls, so that each one is in flight when the drain begins.
    time.sleep(0.5)
    if ending == "drain":
        server.terminate()
    for late, caller in callers.items():
        assert caller.wait(lambda: caller.pings), f"no PING came to the caller with {late}"
        caller.send(frame(PING, ACK, payload=caller.pings[0]) + LATE[late])
    lost = {}
    for late, caller in callers.items():
        with caller:
            caller.wait(lambda: 1 in caller.statuses)
            if caller.statuses.get(1) != 0:
                lost[late] = caller.outcome()
    assert not lost


def test_connections_that_age_lose_no_slow_call_of_grpc_aio(started, tmp_path, figure):
    server = started(Server(tmp_path / "server", *UNHINDERED, "--connection-age", "1s"))
    slow_down(server)
    load = started(SlowCalls([server.address], IN_FLIGHT))
    time.sleep(10)
    result = load.stop()
    figure(result)
    result.check()


def test_rolling_restarts_lose_no_slow_call_of_grpc_aio(started, tmp_path, figure, rolls):
    """Two replicas restart in turn, while two callers with default options have 16 slow calls each."""
    replicas = [started(Server(tmp_path / name, *UNHINDERED, "--drain-wait", "1s")) for name in ("one", "two")]
    for replica in replicas:
        slow_down(replica)
    addresses = [replica.address for replica in replicas]
    # Each load prefers a different replica.
    loads = [started(SlowCalls(order, IN_FLIGHT)) for order in (addresses, addresses[::-1])]
    time.sleep(2)
    for turn in range(rolls):
        replica = replicas[turn % 2]
        replica.drained()
        replica.start()
        slow_down(replica)
        time.sleep(0.5)
    results = [load.stop() for load in loads]
    for result in results:
        figure(f"{rolls} restarts: {result}")
    for result in results:
        result.check()
