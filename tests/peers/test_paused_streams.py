"""A stream that waits for a minute outlives the idle time-outs of proxies, because it sends its progress."""

import time

import grpc
import pytest

from support import PATIENCE
from support.debian import HaproxyOfReplicas, NginxOfReplicas
from support.envoy import Envoy
from support.server import Server
from support.stream import FIRST, stream

# Seconds.
IDLE, PAUSE = 15, 60
# Of each stream.
CONTACTS = 20


def silent(address):
    """A stream that never sends a further message, since the health of a server rarely changes."""
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    return channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")


def test_a_stream_lives_while_its_instance_is_paused(started, tmp_path, figure):
    server = started(Server(tmp_path / "server"))
    server.script(times=1, status=429, headers={"Retry-After": str(PAUSE)})
    fronts = {
        kind.__name__: started(kind(tmp_path / kind.__name__, [server], idle=IDLE))
        for kind in (Envoy, NginxOfReplicas, HaproxyOfReplicas)
    }
    begin = time.monotonic()
    watches = {name: silent(front.address) for name, front in fronts.items()}
    streams = {
        # Each with contacts of its own.
        name: started(stream("grpcio", front.address, tmp_path, contacts=CONTACTS, first=FIRST + 100 * number))
        for number, (name, front) in enumerate(fronts.items())
    }
    # Read at once: a client that has not asked for a message loses it when the stream is cut.
    for watch in watches.values():
        next(watch)
    for name, watch in watches.items():
        with pytest.raises(grpc.RpcError):
            next(watch)
        cut = time.monotonic() - begin
        figure(f"{name} cut a silent stream after {cut:.0f} s")
        assert cut < PAUSE, "the proxy does not end streams that are idle"
    for name, running in streams.items():
        end = running.ended(PAUSE + PATIENCE)
        took = time.monotonic() - begin
        paused = [message.progress for message in running.messages if message.progress.HasField("paused_until")]
        figure(f"{name}: {end}, {took:.0f} s, {len(paused)} messages while paused, {running.silence:.1f} s of silence")
        running.check(CONTACTS)
        assert took >= PAUSE
        # One every 10 s.
        assert len(paused) >= PAUSE / IDLE
