"""The store is killed, frozen, emptied or full: no call fails, and the replicas find it again."""

import time

import pytest

from support import wait_until
from support.replicas import Replicas, Traffic, contacts, look_up
from support.valkey import Valkey

COUNT = 3
# Seconds for which the store is away.
AWAY = 5
FIRST = 15_551_800_000


@pytest.fixture
def valkey(started, tmp_path):
    return started(Valkey(tmp_path / "valkey"))


@pytest.fixture
def replicas(valkey, started, tmp_path):
    return started(Replicas(tmp_path / "replicas", valkey, COUNT, timeout="100ms"))


def killed(valkey):
    valkey.kill()
    yield
    assert valkey.start()


def frozen(valkey):
    valkey.freeze()
    yield
    valkey.thaw()


def full(valkey):
    valkey("CONFIG", "SET", "maxmemory", "1")
    yield
    valkey("CONFIG", "SET", "maxmemory", "0")


def read_only(valkey):
    valkey("REPLICAOF", "127.0.0.1", "1")
    yield
    valkey("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("fault", [killed, frozen, full, read_only])
def test_no_call_fails_and_the_store_is_found_again(fault, valkey, replicas, started, figure):
    known = contacts(200)
    look_up(replicas.addresses, known).check(COUNT * len(known))
    traffic = started(Traffic(replicas.addresses, FIRST))
    wait_until("calls are answered", lambda: traffic.calls.ends.total() > 50)
    away = fault(valkey)
    next(away)
    begin = time.monotonic()
    wait_until("all replicas are detached", lambda: not any(replicas.attached()))
    hits = look_up(replicas.addresses, known)
    time.sleep(max(0, AWAY - (time.monotonic() - begin)))
    next(away, None)
    wait_until("all replicas are attached", lambda: all(replicas.attached()))
    calls = traffic.stop()
    figure(f"{calls}; hits meanwhile: {hits}")
    assert hits.ends == {"CACHE_STATUS_HIT": COUNT * len(known)}, hits
    # 0.1 s of the store, and more than a second for a busy machine.
    assert calls.slowest < 2, calls
    for replica in replicas:
        lines = replica.messages("WARN")
        assert len([line for line in lines if "store" in line]) <= 2, lines
    # The replicas share again.
    after = contacts(50, 15_551_900_000)
    look_up(replicas.addresses, after).check(COUNT * len(after))
    assert replicas.asked(after) == len(after)


def test_an_emptied_store_costs_no_call_and_empties_no_memory(valkey, replicas, started, figure):
    known = contacts(200)
    look_up(replicas.addresses[:1], known).check(len(known))
    traffic = started(Traffic(replicas.addresses, FIRST))
    wait_until("calls are answered", lambda: traffic.calls.ends.total() > 50)
    valkey("FLUSHALL")
    valkey("SCRIPT", "FLUSH")
    begun = traffic.calls.ends.total()
    wait_until("calls are answered after it", lambda: traffic.calls.ends.total() > begun + 100)
    hits = look_up(replicas.addresses[:1], known)
    figure(traffic.stop())
    assert hits.ends == {"CACHE_STATUS_HIT": len(known)}, hits
    # The other replicas had none of them in memory: each contact is fetched once more, and twice by a replica
    # that loses an operation of the store on a busy machine.
    look_up(replicas.addresses[1:], known).check((COUNT - 1) * len(known))
    assert 0 <= replicas.asked(known) - 2 * len(known) <= len(known) / 10
