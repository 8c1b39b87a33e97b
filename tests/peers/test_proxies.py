"""nginx and HAProxy in front of the replicas: every caller gets its answer or its true status."""

import collections
import json
import time

import pytest
from grpc import StatusCode

from support import SERVICE, wait_until
from support.ask import ask
from support.debian import HaproxyOfReplicas, NginxOfReplicas
from support.load import Load
from test_tools import grpcurl

ROUNDS = 2
TOO_LARGE = 17 * 1024


@pytest.fixture(params=[NginxOfReplicas, HaproxyOfReplicas])
def front(request, started, tmp_path):
    return lambda replicas: started(request.param(tmp_path / "proxy", replicas))


def test_statuses_and_health_come_through(front, server, tmp_path, figure):
    proxy = front([server])
    rows = [
        ({}, StatusCode.OK, None),
        ({"chat_id": "15551230006"}, StatusCode.NOT_FOUND, "NOT_ON_WHATSAPP"),
        ({"chat_id": "abc"}, StatusCode.INVALID_ARGUMENT, "CHAT_ID_INVALID"),
        ({"chat_id": "15551230010"}, StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        ({"method": "Nothing"}, StatusCode.UNIMPLEMENTED, None),
        ({"chat_id": "1" * TOO_LARGE}, StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    ]
    for client in ("grpcio", "grpc-js", "connect-node"):
        for asked, code, reason in rows:
            answers = ask(client, proxy.address, tmp_path, calls=50, **asked)
            found = collections.Counter(answer.code.name for answer in answers)
            assert found == {code.name: 50}, f"{client}, {asked}: {answers[-1]}"
            assert reason is None or {answer.reason for answer in answers} == {reason}
    health = grpcurl("-d", json.dumps({"service": SERVICE}), proxy.address, "grpc.health.v1.Health/Check")
    assert json.loads(health.stdout) == {"status": "SERVING"}, health.stderr


def test_no_call_fails_while_replicas_are_replaced(front, replicas, started, figure):
    proxy = front(replicas)
    loads = {
        "grpc-go": started(Load([proxy.address], "15551230101")),
        "grpcio": started(Load([proxy.address], "15551230102", python=True)),
    }
    everyone = {load.chat_id for load in loads.values()}

    def reached(replica):
        wait_until("every caller has reached the replica", lambda: everyone <= replica.asked().keys())

    for replica in replicas:
        reached(replica)
    for turn in range(ROUNDS):
        replica = replicas[turn % 2]
        replica.drained()
        replica.start()
        reached(replica)
    time.sleep(1)
    results = {name: load.stop() for name, load in loads.items()}
    for name, result in results.items():
        figure(f"{name}: {result}")
    for result in results.values():
        result.check()
