"""Streams with each client library: to the end, cancelled, and when the server stops or dies."""

import time

import pytest
from grpc import StatusCode

from support import wait_until
from support.server import Server
from support.stream import CLIENTS, stream, streams

every_client = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture
def begin(started, tmp_path):
    return lambda client, server, **asked: started(stream(client, server.address, tmp_path, **asked))


@pytest.fixture
def paced(started, tmp_path):
    """A server that asks its sandbox twenty times a second."""
    return started(Server(tmp_path / "server", "--rate", "20"))


@every_client
def test_a_stream_is_read_to_its_end(client, begin, started, tmp_path):
    contacts = 2_000
    server = started(Server(tmp_path / "server", "--rate", "0"))
    begin(client, server, contacts=contacts).check(contacts)
    asked = server.asked()
    assert len(asked) == contacts and set(asked.values()) == {1}, "each contact is looked up once"


@every_client
def test_a_client_that_leaves_stops_the_look_ups(client, begin, paced):
    left = begin(client, paced, contacts=1_000, leave_after=10)
    end = left.ended()
    assert end.code is StatusCode.CANCELLED, end
    wait_until("the server has noticed", lambda: streams(paced) == 0)
    asked = sum(paced.asked().values())
    time.sleep(1)
    # At twenty a second there would be more of them.
    assert sum(paced.asked().values()) == asked < 200


@every_client
def test_a_stream_ends_with_its_reason_when_the_server_stops(client, begin, paced):
    running = begin(client, paced, contacts=1_000)
    running.results(20)
    paced.terminate()
    end = running.ended()
    paced.wait()
    assert (end.code, end.reason, end.retry_delay) == (StatusCode.UNAVAILABLE, "SERVER_STOPPING", 1.0)
    # The results of look-ups that had begun came, too, and progress is the last message.
    assert len(running.indices) == len(set(running.indices)) == running.progress[-1]


@every_client
def test_results_before_the_death_of_the_server_stand(client, begin, paced):
    running = begin(client, paced, contacts=1_000)
    running.results(20)
    paced.close()
    end = running.ended()
    # connect-node reports a connection that is gone as CANCELLED.
    expected = StatusCode.CANCELLED if client == "connect-node" else StatusCode.UNAVAILABLE
    assert end.code is expected and end.reason is None, end
    found = len(running.indices)
    assert found == len(set(running.indices)) >= 20
