"""Clients that vanish in a stream, and connections that age or carry many PINGs beside one."""


import grpc
import pytest

from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

from support import wait_until
from support.server import Server
from support.stream import CLIENTS, Asked, stream, streams

MIB = 1024 * 1024


@pytest.fixture
def paced(started, tmp_path):
    return started(Server(tmp_path / "server", "--rate", "20"))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stream_outlives_the_age_of_its_connection(client, started, tmp_path):
    contacts = 80
    server = started(Server(tmp_path / "server", "--rate", "20", "--connection-age", "1s"))
    started(stream(client, server.address, tmp_path, contacts=contacts)).check(contacts)


@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "grpcio"])
def test_a_client_whose_process_dies_stops_the_look_ups(client, paced, started, tmp_path):
    running = started(stream(client, paced.address, tmp_path, contacts=1_000))
    running.results(5)
    running.close()
    wait_until("the server has noticed", lambda: streams(paced) == 0)


def test_pings_beside_a_silent_stream_are_not_taken_for_a_flood(paced):
    paced.script(times=1, status=429, headers={"Retry-After": "12"})
    # Other servers of gRPC allow a PING in five minutes by default.
    options = [("grpc.keepalive_time_ms", 1000), ("grpc.http2.max_pings_without_data", 0)]
    with grpc.insecure_channel(paced.address, options=options) as channel:
        messages = list(ContactServiceStub(channel).StreamProfilePictures(Asked(contacts=10).request()))
    results = [message for message in messages if message.HasField("result")]
    assert len(results) == 10
    assert len(messages) - len(results) == 2, "the progress after 10 s and the last one"


def test_streams_that_are_reset_at_once_leave_nothing_behind(paced, figure):
    request = Asked(contacts=10_000).request()

    def reset_all():
        with grpc.insecure_channel(paced.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = ContactServiceStub(channel)
            for _ in range(300):
                stub.StreamProfilePictures(request).cancel()
            # The connection is still good.
            next(stub.StreamProfilePictures(Asked(contacts=1).request()))
        wait_until("no stream is in progress", lambda: streams(paced) == 0)

    # The allocator keeps what the first round needed.
    reset_all()
    before, _ = paced.memory()
    reset_all()
    reset_all()
    after, _ = paced.memory()
    figure(f"{(after - before) / MIB:.1f} MiB more after 600 further streams")
    assert after - before < 64 * MIB
