"""A service with a file finds its answers after a restart, also after it was killed."""

import signal
import time

import pytest

from support.replicas import contacts, look_up
from support.sandbox import Sandbox
from support.server import Server

COUNT = 2000


@pytest.fixture
def sandbox(started, tmp_path):
    return started(Sandbox(tmp_path / "sandbox"))


@pytest.fixture
def service(sandbox, started, tmp_path):
    flags = ["--store", f"file:{tmp_path / 'store'}", "--rate", "0", "--drain-wait", "0"]
    return started(Server(tmp_path / "service", *flags, environment=sandbox.settings))


def asked(sandbox, chat_ids):
    counts = sandbox.asked()
    return sum(counts.get(chat_id, 0) for chat_id in chat_ids)


def test_a_drain_and_a_start_cost_no_request(service, sandbox, figure):
    chat_ids = contacts(COUNT)
    look_up([service.address], chat_ids).check(COUNT)
    # Without a pause: the drain writes what is still to be written.
    service.drained()
    service.start()
    calls = look_up([service.address], chat_ids)
    figure(calls)
    assert calls.ends == {"CACHE_STATUS_HIT": COUNT}, calls
    assert asked(sandbox, chat_ids) == COUNT


def test_a_kill_costs_the_last_second_at_most(service, sandbox, figure):
    early, late = contacts(COUNT), contacts(100, 15_551_750_000)
    look_up([service.address], early).check(COUNT)
    # The writes are a second late at most, and another one for a busy machine.
    time.sleep(2)
    look_up([service.address], late).check(len(late))
    service.process.send_signal(signal.SIGKILL)
    service.process.wait()
    service.start()
    look_up([service.address], early + late).check(COUNT + len(late))
    figure(f"{asked(sandbox, late) - len(late)} of {len(late)} contacts of the last second were fetched again")
    assert asked(sandbox, early) == COUNT


def test_a_second_process_does_not_start_on_the_same_file(service, sandbox, tmp_path):
    with pytest.raises(AssertionError):
        Server(tmp_path / "second", *service.flags, environment=sandbox.settings)
    said = (tmp_path / "second" / "log-1").read_text()
    assert "--store (HYPERSENDER_GRPC_STORE): " in said, said
