"""Replicas restart one after the other under syncs of 10,000 contacts: each contact is answered once."""

import time

from support import wait_until
from support.envoy import Envoy
from support.sandbox import Sandbox
from support.server import Server
from support.sync import PROGRAMS, Sync

CONTACTS = 10_000
RESTARTS = 4
# Milliseconds of a look-up during the restarts. The syncs would take several minutes with it.
LOOK_UP_MS = 150


def test_each_contact_is_answered_once(started, tmp_path, figure):
    # One sandbox for both replicas, which outlives them.
    sandbox = started(Sandbox(tmp_path / "sandbox"))
    sandbox.script(delay_ms=LOOK_UP_MS)
    settings = sandbox.settings
    replicas = [started(Server(tmp_path / name, "--rate", "0", environment=settings)) for name in ("one", "two")]
    envoy = started(Envoy(tmp_path / "envoy", replicas))
    begin = time.monotonic()
    syncs = {}
    for index, client in enumerate(PROGRAMS):
        # Each sync has contacts of its own, so that none finds answers of another.
        chat_ids = [str(15552000000 + index * CONTACTS + contact) for contact in range(CONTACTS)]
        syncs[client] = started(Sync(client, envoy.address, tmp_path / client, chat_ids))
    wait_until("both syncs have results", lambda: all(sync.known() for sync in syncs.values()))

    for turn in range(RESTARTS):
        replica = replicas[turn % 2]
        replica.drained()
        replica.start()
        wait_until("Envoy finds both replicas healthy", lambda: envoy.healthy() == len(replicas))
    assert all(sync.running() for sync in syncs.values())
    sandbox.unscript()
    for client, sync in syncs.items():
        sync.check()
        breaks = sync.breaks()
        figure(f"{client}: {breaks} streams broke in {RESTARTS} restarts, {time.monotonic() - begin:.0f} s")
        # The two replicas restarted in turn, so that two restarts in a row cannot both miss a stream.
        assert breaks >= RESTARTS // 2
        # The client in the other language reads the same files, and has nothing to add.
        other = next(name for name in PROGRAMS if name != client)
        started(Sync(other, envoy.address, tmp_path / client, sync.chat_ids)).check()
