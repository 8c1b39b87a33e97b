"""Peers that mean harm, or are broken in ways that look like it.

Each attack takes the server, an event that ends it, and a counter for the ends of its connections. Python
limits its speed. The tests show that the cost of a hostile frame is bounded, not how many frames the server
can handle.
"""

import collections
import contextlib
import itertools
import struct
import threading

from . import http2
from .http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_MAX,
    Connection,
    begin,
    call,
    frame,
    request_headers,
    reset,
    settings,
    window_update,
)

# The largest frame is 16 KiB, since the server does not announce another limit.
FRAME_BYTES = 16 * 1024
STREAMS = 256
# The connections of each of two attackers. Together they have more calls than may wait for their messages. A
# call without a message, or with an unread answer, costs the server about 4 KiB.
CROWD = 24


def hold(count, opening, again=None):
    """Open `count` connections and leave them. `again` is sent on each one five times a second."""

    def attack(server, stop, outcomes):
        with contextlib.ExitStack() as stack:
            connections = []
            for _ in range(count):
                connections.append(stack.enter_context(Connection(server, opening)))
            for turn in itertools.count():
                if stop.wait(0.2):
                    break
                for connection in connections if again else ():
                    with contextlib.suppress(OSError):
                        connection.send(again(turn))
            for connection in connections:
                outcomes[connection.outcome()] += 1

    return attack


def flood(burst, *, reads=True, pace=0, opening=PREFACE + settings()):
    """Open one connection after the other. Each one sends `burst(turn)` until the end of the attack."""

    def attack(server, stop, outcomes):
        while not stop.is_set():
            with Connection(server, opening) as connection:
                held_back = False
                for turn in itertools.count():
                    try:
                        connection.send(burst(turn))
                    except TimeoutError:
                        held_back = True
                        break
                    except OSError:
                        break
                    if stop.wait(pace) or (reads and not connection.read()):
                        break
                outcome = connection.outcome()
                outcomes["held back" if held_back and outcome == "open" else outcome] += 1

    return attack


def odd(number):
    return 2 * number + 1


def many(make, count=100):
    """A burst with `count` new streams."""
    return lambda turn: b"".join(make(odd(turn * count + index)) for index in range(count))


def almost_whole(stream):
    """A call without the last byte of its message, which has the largest size."""
    message = b"\0" + struct.pack(">I", FRAME_BYTES) + bytes(FRAME_BYTES - 1)
    return begin(stream) + frame(DATA, 0, stream, message[:FRAME_BYTES]) + frame(DATA, 0, stream, message[FRAME_BYTES:])


def endless_message(server, stop, outcomes):
    """A message of 4 GiB, sent as fast as the server opens its windows, again and again."""
    while not stop.is_set():
        with Connection(server) as connection:
            budget = 65_535
            with contextlib.suppress(OSError):
                connection.send(begin(1) + frame(DATA, 0, 1, http2.message(b"", length=2**32 - 1)))
                while not stop.is_set() and connection.read(0.05):
                    # Both windows must be open. They begin equal, so that the smaller growth counts.
                    grown = min(connection.windows[0], connection.windows[1])
                    if budget + grown >= FRAME_BYTES:
                        connection.send(frame(DATA, 0, 1, bytes(FRAME_BYTES)))
                        budget -= FRAME_BYTES
            outcomes[connection.outcome()] += 1


def big_metadata(size):
    block = request_headers(extra=[("x-big", "a" * 1000)] * (size // 1000))

    def burst(turn):
        first, *rest = (block[at : at + FRAME_BYTES] for at in range(0, len(block), FRAME_BYTES))
        stream = odd(turn)
        frames = [frame(HEADERS, END_STREAM, stream, first)]
        frames += [frame(CONTINUATION, 0, stream, part) for part in rest]
        # END_HEADERS is set only in the last frame.
        frames[-1] = frames[-1][:4] + bytes([frames[-1][4] | http2.END_HEADERS]) + frames[-1][5:]
        return b"".join(frames)

    return burst


def continuation(payload):
    def burst(turn):
        start = frame(HEADERS, END_STREAM, 1, request_headers()) if turn == 0 else b""
        return start + frame(CONTINUATION, 0, 1, payload) * 16

    return burst


PINGS = frame(PING, payload=bytes(8)) * 1000
ALL_SETTINGS = settings(initial_window_size=65_535) * 1000
NO_WINDOW = PREFACE + settings(initial_window_size=0) + frame(SETTINGS, ACK)
CALLS = b"".join(call(odd(index)) for index in range(STREAMS))
WATCH = begin(1, request_headers("grpc.health.v1.Health/Watch")) + frame(DATA, END_STREAM, 1, http2.message(b""))

ATTACKS = {
    "silent connections": hold(200, b""),
    "connections that stop after the preface": hold(200, PREFACE + settings()),
    "connections that stop within a frame": hold(200, PREFACE + settings() + struct.pack(">I", FRAME_BYTES)[1:]),
    "requests that never come to their message": hold(CROWD, PREFACE + settings() + many(begin, STREAMS)(0)),
    # The number that fits into the window of a connection.
    "messages that lack a byte": hold(150, PREFACE + settings() + many(almost_whole, 3)(0)),
    "a preface byte by byte": hold(100, PREFACE[:1], lambda turn: PREFACE[1 + turn % 23 : 2 + turn % 23]),
    "something else than HTTP/2": flood(lambda _: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", opening=b""),
    "rapid resets": flood(many(lambda stream: begin(stream) + reset(stream))),
    "rapid resets of whole calls": flood(many(lambda stream: call(stream) + reset(stream))),
    "rapid resets, paced": flood(many(lambda stream: begin(stream) + reset(stream), 2), pace=0.01),
    "faults that make the server reset": flood(many(lambda stream: begin(stream) + window_update(stream, 0), 10)),
    "window overflow of the connection": flood(lambda _: window_update(0, WINDOW_MAX)),
    "window overflow of streams": flood(many(lambda stream: begin(stream) + window_update(stream, WINDOW_MAX), 10)),
    "endless empty CONTINUATION": flood(continuation(b"")),
    "endless CONTINUATION": flood(continuation(http2.header("x-more", "a" * 1000) * 16)),
    "PING flood": flood(lambda _: PINGS),
    "PING flood that reads nothing": flood(lambda _: PINGS, reads=False),
    "SETTINGS flood": flood(lambda _: ALL_SETTINGS),
    "SETTINGS flood that reads nothing": flood(lambda _: ALL_SETTINGS, reads=False),
    "empty DATA flood": flood(lambda turn: (begin(1) if turn == 0 else b"") + frame(DATA, 0, 1) * 1000),
    "60 KB of metadata": flood(big_metadata(60_000)),
    "endless messages": endless_message,
    "a reader that opens no window": hold(CROWD, NO_WINDOW + CALLS),
    "a reader that reads nothing": flood(many(call, STREAMS), reads=False),
    "watches that nobody reads": hold(100, NO_WINDOW + WATCH),
}


class Attack:
    """An attack by some attackers at the same time, until `stop`."""

    def __init__(self, name, server, attackers=2):
        self.outcomes, self._stop, self.faults = collections.Counter(), threading.Event(), []
        self._threads = [
            threading.Thread(target=self._run, args=(ATTACKS[name], server), daemon=True) for _ in range(attackers)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, attack, server):
        try:
            attack(server, self._stop, self.outcomes)
        except ConnectionError:
            # The server is gone, or it closed the connection during the handshake.
            self.outcomes["refused"] += 1
        except Exception as fault:
            self.faults.append(fault)

    def stop(self):
        self.close()
        assert not self.faults, self.faults
        return ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))

    def close(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()
