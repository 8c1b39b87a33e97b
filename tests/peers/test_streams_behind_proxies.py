"""Streams behind Envoy, nginx and HAProxy: long answers, large requests, cancellation, and dead servers."""

import pytest
from grpc import StatusCode

from support import wait_until
from support.debian import HaproxyOfReplicas, NginxOfReplicas
from support.envoy import Envoy
from support.server import Server
from support.stream import CLIENTS, stream, streams

CONTACTS = 1_000


@pytest.fixture
def fast(started, tmp_path):
    return started(Server(tmp_path / "server", "--rate", "0"))


@pytest.fixture
def paced(started, tmp_path):
    return started(Server(tmp_path / "server", "--rate", "20"))


@pytest.fixture(params=[Envoy, NginxOfReplicas, HaproxyOfReplicas])
def front(request, started, tmp_path):
    return lambda server: started(request.param(tmp_path / "proxy", [server]))


def test_a_whole_stream_comes_through(front, fast, started, tmp_path):
    proxy = front(fast)
    for client in CLIENTS:
        started(stream(client, proxy.address, tmp_path, contacts=CONTACTS)).check(CONTACTS)


def test_the_largest_request_comes_through(front, fast, started, tmp_path):
    contacts = 10_000
    proxy = front(fast)
    running = started(stream("grpcio", proxy.address, tmp_path, contacts=contacts, known="a" * 80))
    running.check(contacts)


def test_a_client_that_leaves_stops_the_look_ups(front, paced, started, tmp_path):
    proxy = front(paced)
    for client in CLIENTS:
        left = started(stream(client, proxy.address, tmp_path, contacts=CONTACTS, leave_after=5))
        assert left.ended().code is StatusCode.CANCELLED
        wait_until(f"the server has noticed that {client} has left", lambda: streams(paced) == 0)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_death_of_the_server_is_no_end_of_a_stream(client, front, paced, started, tmp_path, figure):
    running = started(stream(client, front(paced).address, tmp_path, contacts=CONTACTS))
    running.results(20)
    paced.close()
    end = running.ended()
    figure(str(end))
    assert end.code not in (StatusCode.OK, None)
