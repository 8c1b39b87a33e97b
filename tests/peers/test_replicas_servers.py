"""Other servers: Redis 7.0 from Debian over TLS, by a user of few permissions, and a cluster of three."""

import pytest

from support import HERE, wait_until
from support.replicas import Replicas, contacts, look_up
from support.tls import Certificates
from support.valkey import Cluster, RedisWithTls

COUNT = 3
# A mark that must not be found in any log.
PASSWORD = "Zq9password-of-the-store"
OPERATORS = HERE.parents[1] / "docs" / "replicas.md"


def redis(directory):
    store = RedisWithTls(directory / "redis", Certificates(directory / "certificates"))
    store(*user().replace("PASSWORD", PASSWORD).split())
    # Whoever does not log in can do nothing.
    store("ACL", "SETUSER", "default", "-@all")
    login = {"HYPERSENDER_GRPC_STORE_USERNAME": "contacts", "HYPERSENDER_GRPC_STORE_PASSWORD": PASSWORD}
    return store, login


def cluster(directory):
    return Cluster(directory / "cluster"), {}


def user():
    """The command that docs/replicas.md gives to operators."""
    [line] = [line for line in OPERATORS.read_text().splitlines() if line.startswith("ACL SETUSER")]
    return line


@pytest.mark.parametrize("server", [redis, cluster])
def test_replicas_act_as_one(server, started, tmp_path, figure):
    store, login = server(tmp_path)
    started(store)
    replicas = started(Replicas(tmp_path / "replicas", store, COUNT, environment=login))
    chat_ids = contacts(300)
    calls = look_up(replicas.addresses, chat_ids)
    figure(calls)
    calls.check(COUNT * len(chat_ids))
    assert replicas.asked(chat_ids) == len(chat_ids)
    for replica in replicas:
        replica.drained()
        replica.start()
    wait_until("all replicas are attached", lambda: all(replicas.attached()))
    again = look_up(replicas.addresses, chat_ids)
    warnings = [replica.messages("WARN") for replica in replicas]
    assert again.ends == {"CACHE_STATUS_HIT": COUNT * len(chat_ids)}, warnings
    assert not any(PASSWORD in replica.log.read_text() for replica in replicas)
