"""During an outage of Hypersender, every client gets the reason and the wait within its deadline."""

import pytest
from grpc import StatusCode

from support.ask import SERVICE_CONFIG, ask

# Seconds.
DEADLINE = 5
# The behaviour of Hypersender, and the seconds within which a caller knows of it. A client may retry while it
# has time. If the wait is longer than its deadline, it must not wait at all.
OUTAGES = {
    "503": ({"status": 503}, DEADLINE),
    "503 that asks for a minute": ({"status": 503, "headers": {"Retry-After": "60"}}, 3),
    "no answer": ({"close": True}, DEADLINE),
}


@pytest.mark.parametrize("config", [None, SERVICE_CONFIG], ids=["no service config", "service_config.json"])
@pytest.mark.parametrize("client", ["grpcio", "grpc-go", "grpc-js", "connect-node"])
@pytest.mark.parametrize("outage", OUTAGES)
def test_a_client_is_told_of_an_outage_in_time(outage, client, config, server, tmp_path, figure):
    if config and client == "connect-node":
        pytest.skip("connect-node knows no service config")
    script, limit = OUTAGES[outage]
    server.script(**script)
    [answer] = ask(client, server.address, tmp_path, deadline=DEADLINE, service_config=config)
    figure(answer)
    assert answer.code == StatusCode.UNAVAILABLE, str(answer)
    assert answer.reason in ("UPSTREAM_UNAVAILABLE", "UPSTREAM_CIRCUIT_OPEN"), str(answer)
    assert answer.retry_delay is not None, str(answer)
    assert answer.took < limit, str(answer)
