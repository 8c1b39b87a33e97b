"""Hostile and broken peers harm only themselves.

Other callers see no failure, memory stays bounded, and the server still stops in time.
"""

import time

import pytest

from support.hostile import ATTACKS, Attack
from support.load import Load

RATE = 200
MEMORY_MAX = 64 << 20
# Seconds.
ATTACK = 3
DRAIN_WAIT, DRAIN_LIMIT = 5, 20


@pytest.mark.parametrize("name", ATTACKS)
def test_normal_calls_do_not_notice(name, server, started, figure):
    load = started(Load([server.address], "15551230001", rate=RATE))
    # The memory of normal calls does not count.
    time.sleep(1)
    before, _ = server.memory()
    server.forget_peak()
    attack = started(Attack(name, server))
    time.sleep(ATTACK)
    outcomes = attack.stop()
    result = load.stop()
    _, peak = server.memory()
    figure(f"{result}; memory +{(peak - before) / (1 << 20):.1f} MiB; attackers: {outcomes}")
    assert server.process.poll() is None, server.log.read_text()
    assert outcomes and "refused" not in outcomes, "an attacker never came to its attack"
    result.check()
    assert peak - before <= MEMORY_MAX


def test_drain(server, started, figure, drains):
    """A stop with hostile peers attached ends in time with exit code 0."""
    attached = [
        "connections that stop after the preface",
        "connections that stop within a frame",
        "requests that never come to their message",
        "a reader that opens no window",
        "PING flood",
        "watches that nobody reads",
    ]
    for turn in range(drains):
        for name in attached:
            started(Attack(name, server, attackers=1))
        time.sleep(1)
        seconds = server.drained()
        figure(f"drain {turn + 1} of {drains} took {seconds:.2f} s")
        assert seconds <= DRAIN_WAIT + DRAIN_LIMIT + 1
        server.start()
