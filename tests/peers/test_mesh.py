"""What docs/mesh.md says about configurations: each setting is needed, and the manifests are YAML."""

import collections
import time

import pytest
import yaml
from grpc import StatusCode

from support import debian, envoy, mesh
from support.ask import ask
from support.debian import HaproxyOfReplicas, NginxOfReplicas, Proxy
from support.envoy import Envoy
from support.server import Server
from support.stream import FIRST, stream

# Seconds. The default time limit of a route in Envoy, and a pause that is longer.
ROUTE, PAUSE = 15, 18
# The idle time-outs of a proxy that cuts a stream between two of its messages.
SHORT = 5


@pytest.fixture
def changed(monkeypatch):
    """Change the configuration below a heading of the page for the proxies that are started afterwards."""

    def change(heading, values):
        text = mesh.filled(mesh.snippet(heading), values)
        for module in (debian, envoy):
            monkeypatch.setattr(module, "snippet", lambda _: text)

    return change


def test_streams_end_early_with_the_default_route_of_envoy_and_with_short_idle_time_outs(
    started, tmp_path, figure, changed
):
    server = started(Server(tmp_path / "server"))
    server.script(times=1, status=429, headers={"Retry-After": str(PAUSE)})
    fronts = {
        "Envoy, idle": started(Envoy(tmp_path / "idle", [server], idle=SHORT)),
        "nginx, idle": started(NginxOfReplicas(tmp_path / "nginx", [server], idle=SHORT)),
        "HAProxy, idle": started(HaproxyOfReplicas(tmp_path / "haproxy", [server], idle=SHORT)),
    }
    changed("Envoy", {", timeout: 0s": ""})
    fronts["Envoy, route"] = started(Envoy(tmp_path / "route", [server]))
    begin = time.monotonic()
    running = {
        name: started(stream("grpcio", front.address, tmp_path, contacts=3, first=FIRST + 100 * number))
        for number, (name, front) in enumerate(fronts.items())
    }
    for name, one in running.items():
        end = one.ended()
        took = time.monotonic() - begin
        figure(f"{name}: {end.code.name} after {took:.0f} s")
        assert end.code is not StatusCode.OK, name
        assert took < (ROUTE if name == "Envoy, route" else 2 * SHORT) + 2


@pytest.mark.parametrize("kind", [Envoy, HaproxyOfReplicas])
def test_every_call_fails_over_http_1(kind, server, started, tmp_path, figure, changed):
    if kind is Envoy:
        text = mesh.snippet("Envoy")
        # The health checks need HTTP/2 as well. Without them Envoy calls the server.
        checks = text[text.index("    health_checks:") : text.index("    common_lb_config:")]
        changed("Envoy", {"{http2_protocol_options: {}}": "{http_protocol_options: {}}", checks: ""})
    else:
        changed("HAProxy", {":50051 proto h2 check check-proto h1 ": ":50051 check "})
    proxy = started(kind(tmp_path / "proxy", [server]))
    answers = ask("grpcio", proxy.address, tmp_path, calls=5)
    figure(str(answers[-1]))
    assert all(answer.code is not StatusCode.OK for answer in answers)
    assert not server.asked()


def test_nginx_refuses_large_streams_by_default(server, started, tmp_path, figure, changed):
    changed("nginx", {"    client_max_body_size 3m;\n": ""})
    proxy = started(NginxOfReplicas(tmp_path / "proxy", [server]))
    end = started(stream("grpcio", proxy.address, tmp_path, contacts=10_000, known="a" * 80)).ended()
    figure(str(end))
    assert end.code is StatusCode.UNKNOWN and "413" in end.message


class Balancer(Proxy):
    """A balancer of connections, like a ClusterIP Service."""

    name = "haproxy"

    def __init__(self, directory, servers):
        self.replicas = servers
        super().__init__(directory)

    def flags(self, config):
        return "-db", "-f", config

    def configuration(self):
        servers = "".join(f"    server {server.address} {server.address}\n" for server in self.replicas)
        times = "    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n"
        return f"defaults\n    mode tcp\n{times}listen front\n    bind {self.address}\n    balance roundrobin\n{servers}"


@pytest.mark.parametrize("kind, expected", [(Balancer, 1), (Envoy, 2), (NginxOfReplicas, 2), (HaproxyOfReplicas, 2)])
def test_a_balancer_of_connections_sends_all_calls_to_one_replica(kind, expected, replicas, started, tmp_path, figure):
    proxy = started(kind(tmp_path / "proxy", replicas))
    answers = ask("grpc-go", proxy.address, tmp_path, calls=100)
    assert collections.Counter(answer.code for answer in answers) == {StatusCode.OK: 100}
    reached = [replica for replica in replicas if replica.asked()]
    figure(f"{kind.__name__}: {len(reached)} of 2 replicas")
    assert len(reached) == expected


@pytest.mark.parametrize(
    "heading, kinds", [("Istio", ["VirtualService", "DestinationRule"]), ("Linkerd", ["Service", "Pod"])]
)
def test_the_manifests_of_meshes_are_yaml(heading, kinds):
    manifests = list(yaml.safe_load_all(mesh.snippet(heading)))
    assert [manifest["kind"] for manifest in manifests] == kinds
    assert all(manifest["apiVersion"] and manifest["metadata"]["name"] == "contacts" for manifest in manifests)
