"""While Hypersender is down every client is told so, with the reason and the wait, within its deadline."""

import pytest
from grpc import StatusCode

from support.ask import SERVICE_CONFIG, ask

# Seconds.
DEADLINE = 5
# What Hypersender does, and within how many seconds a caller knows. A client may repeat a call as often as there is time
# for it; where the wait is longer than its deadline, it must not wait at all.
OUTAGES = [
    ({"status": 503}, DEADLINE),
    ({"status": 503, "headers": {"Retry-After": "60"}}, 3),
    ({"close": True}, DEADLINE),
]


@pytest.mark.parametrize("config", [None, SERVICE_CONFIG], ids=["no service config", "service_config.json"])
@pytest.mark.parametrize("client", ["grpcio", "grpc-go", "grpc-js", "connect-node"])
def test_a_client_is_told_of_an_outage_in_time(client, config, server, tmp_path, figure):
    if config and client == "connect-node":
        pytest.skip("connect-node knows no service config")
    for contact, (outage, limit) in enumerate(OUTAGES, start=15550000000):
        server.script(chat_id=str(contact), **outage)
        asked = {"chat_id": str(contact), "deadline": DEADLINE, "service_config": config}
        [answer] = ask(client, server.address, tmp_path, **asked)
        figure(f"{outage}: {answer}")
        assert answer.code == StatusCode.UNAVAILABLE, str(answer)
        assert answer.reason in ("UPSTREAM_UNAVAILABLE", "UPSTREAM_CIRCUIT_OPEN"), str(answer)
        assert answer.retry_delay is not None, str(answer)
        assert answer.took < limit, str(answer)
