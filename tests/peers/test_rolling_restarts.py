"""Replicas restart one after the other without a failed call, with Envoy or the health checks of gRPC."""

import time

from support import wait_until
from support.envoy import Envoy
from support.load import Load

ROUNDS = 5


def test_no_call_fails(replicas, started, tmp_path, figure):
    addresses = [replica.address for replica in replicas]
    envoy = started(Envoy(tmp_path / "envoy", replicas))
    # Each caller asks for a different contact, so that the sandboxes of the replicas show which callers
    # reached them.
    loads = {
        "Envoy": started(Load([envoy.address], "15551230101")),
        "grpc-go": started(Load(addresses, "15551230102", service_config=True)),
        "grpcio": started(Load(addresses, "15551230103", service_config=True, python=True)),
    }
    everyone = {load.chat_id for load in loads.values()}

    def reached(replica):
        wait_until("every caller has reached the replica", lambda: everyone <= replica.asked().keys())

    for replica in replicas:
        reached(replica)
    drains = []
    for turn in range(ROUNDS):
        replica = replicas[turn % 2]
        drains.append(replica.drained())
        replica.start()
        # Like `minReadySeconds` of a deployment: the next replica stops only when this one is in use.
        reached(replica)
    time.sleep(1)
    results = {name: load.stop() for name, load in loads.items()}
    figure("drains took " + ", ".join(f"{seconds:.2f} s" for seconds in drains))
    for name, result in results.items():
        figure(f"{name}: {result}")
    for result in results.values():
        result.check()
