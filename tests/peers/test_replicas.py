"""Three replicas on one store: one fetch, one pause, one rejected token, and nothing lost by a restart."""

import itertools
import threading
import time

import pytest

from hypersender.contact.v1.contact_service_pb2 import CacheControl

from support import wait_until
from support.load import Load
from support.replicas import Replicas, contacts, look_up, metric
from support.valkey import Valkey

COUNT = 3
SINGLE = {"grpc_method": "GetProfilePicture"}
# Seconds after which another replica takes over the lease of one that died.
LEASE = 3


@pytest.fixture
def valkey(started, tmp_path):
    return started(Valkey(tmp_path / "valkey"))


@pytest.fixture
def replicas(valkey, started, tmp_path):
    return started(Replicas(tmp_path / "replicas", valkey, COUNT))


def test_a_contact_is_fetched_once_however_many_replicas_are_asked(replicas, figure):
    chat_ids = contacts(500)
    # The fetches last long enough for all replicas to want the same contact meanwhile.
    replicas.sandbox.script(delay_ms=30)
    calls = look_up(replicas.addresses, chat_ids)
    figure(calls)
    calls.check(COUNT * len(chat_ids))
    asked = replicas.sandbox.asked()
    assert {chat_id: asked.get(chat_id) for chat_id in chat_ids} == dict.fromkeys(chat_ids, 1)


def test_others_take_over_when_the_owner_of_a_lease_is_killed(replicas, figure):
    chat_id, took = contacts(1)[0], 1.5
    replicas.sandbox.script(chat_id=chat_id, delay_ms=int(1000 * took))
    owner = threading.Thread(target=look_up, args=([replicas[0].address], [chat_id]), daemon=True)
    owner.start()
    wait_until("the owner has asked", lambda: replicas.asked([chat_id]))
    replicas[0].close()
    calls = look_up(replicas.addresses[1:], [chat_id])
    figure(calls)
    calls.check(2)
    assert replicas.asked([chat_id]) == 2, "one request of the owner, and one of the replica that took over"
    # A second more for a busy machine.
    assert calls.slowest < LEASE + took + 1, calls
    owner.join()


def test_a_rolling_restart_costs_no_request_and_no_call(valkey, started, tmp_path, figure):
    # Clients need the wait, because it is their time to leave the replica.
    replicas = started(Replicas(tmp_path / "replicas", valkey, COUNT, drain_wait="2s"))
    chat_ids = contacts(1000)
    look_up([replicas[0].address], chat_ids).check(len(chat_ids))
    load = started(Load(replicas.addresses, "15551230101", service_config=True))
    wait_until("the load has begun", lambda: replicas.asked([load.chat_id]))
    for replica in replicas:
        replica.drained()
        replica.start()
        wait_until("the replica is attached", lambda: all(replicas.attached()))
        wait_until("the load has reached the replica", lambda: metric(replica, "grpc_server_handled_total", **SINGLE))
    calls = look_up(replicas.addresses, chat_ids)
    result = load.stop()
    figure(f"{calls}; {result}")
    result.check()
    assert calls.ends == {"CACHE_STATUS_HIT": COUNT * len(chat_ids)}, calls
    assert replicas.asked(chat_ids) == len(chat_ids)
    assert replicas.asked([load.chat_id]) == 1


def test_a_pause_after_429_holds_on_all_replicas(replicas, figure):
    paused, others = contacts(1)[0], contacts(30, 15_551_710_000)
    replicas.sandbox.script(chat_id=paused, times=1, status=429, headers={"Retry-After": "5"})
    first = look_up([replicas[0].address], [paused], deadline=1)
    begin = time.monotonic()
    assert not any(end.startswith("CACHE_STATUS") for end in first.ends), first
    refused = look_up(replicas.addresses[1:], others, deadline=1)
    assert time.monotonic() - begin < 4, "the pause may have ended"
    assert replicas.asked(others) == 0, refused
    figure(refused)
    answered = look_up(replicas.addresses, others)
    answered.check(COUNT * len(others))
    assert time.monotonic() - begin > 4, "the pause was shorter than asked for"


def test_a_rejected_token_hides_its_answers_on_all_replicas(replicas, figure):
    [known, rejected, later] = contacts(3)
    look_up(replicas.addresses, [known]).check(COUNT)
    cached = CacheControl(only_if_cached=True)

    def hits():
        return look_up(replicas.addresses, [known], cache_control=cached).ends["CACHE_STATUS_HIT"]

    assert hits() == COUNT
    replicas.sandbox.script(chat_id=rejected, times=1, status=401)
    begin = time.monotonic()
    look_up([replicas[0].address], [rejected])
    wait_until("no replica serves what the token fetched", lambda: hits() == 0)
    took = time.monotonic() - begin
    figure(f"dropped after {took:.2f} s")
    # A second, and one more for a busy machine.
    assert took < 2
    # The answers of a token that works again are valid again. The cool-down ends within a few seconds.
    fetched = itertools.count(int(later))
    wait_until(
        "the token works again",
        lambda: look_up([replicas[1].address], [str(next(fetched))]).ends["CACHE_STATUS_MISS"],
    )
    look_up(replicas.addresses, [known]).check(COUNT)
