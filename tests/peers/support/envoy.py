"""Envoy in front of the replicas, like in a mesh or an ingress, and in front of the REST API."""

import base64
import json
import subprocess
import urllib.request

import yaml
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2

from hypersender.contact.v1 import contact_service_pb2

from . import PATIENCE, SERVICE, program, wait_until
from .mesh import snippet

TYPE = "type.googleapis.com/envoy.extensions"
ROUTER = {"name": "router", "typed_config": {"@type": f"{TYPE}.filters.http.router.v3.Router"}}


class Process:
    """Envoy with a configuration that has one listener."""

    def __init__(self, directory, config):
        directory.mkdir()
        path, admin = directory / "envoy.json", directory / "admin"
        path.write_text(json.dumps(config))
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                # A separate base id, because other Envoys may run on this machine.
                [program("ENVOY_BIN"), "--use-dynamic-base-id", "--concurrency", "1", "-c", str(path)]
                + ["--admin-address-path", str(admin), "--log-level", "warning"],
                stdout=log,
                stderr=log,
            )
        self.admin = wait_until("Envoy has an admin port", lambda: admin.exists() and admin.read_text())
        listener = wait_until("Envoy listens", lambda: self._ask("/listeners?format=json").get("listener_statuses"))
        address = listener[0]["local_address"]["socket_address"]
        self.host, self.port = address["address"], address["port_value"]
        self.address = f"{self.host}:{self.port}"

    def _ask(self, path):
        assert self.process.poll() is None, self.log.read_text()
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=PATIENCE) as answer:
            return json.load(answer)

    def close(self):
        self.process.kill()
        self.process.wait()


class Envoy(Process):
    """A proxy with a health-checked cluster that accepts gRPC and JSON on one port. It retries nothing.

    Streams without a message for `idle` seconds are ended. `health_check` replaces that of docs/mesh.md.
    """

    def __init__(self, directory, servers, idle=300, health_check=None):
        super().__init__(directory, configuration(servers, idle, health_check))
        wait_until("Envoy finds all replicas healthy", lambda: self.healthy() == len(servers))

    def healthy(self):
        """The number of replicas that pass the health checks."""
        hosts = [
            host["health_status"]
            for cluster in self._ask("/clusters?format=json").get("cluster_statuses", [])
            for host in cluster.get("host_statuses", [])
        ]
        return sum("failed_active_health_check" not in host for host in hosts)


class EnvoyOfApi(Process):
    """HTTP/2 over TLS in front of a REST API. With `requests`, connections end after that number."""

    def __init__(self, directory, sandbox, certificates, requests=None):
        manager = {
            "@type": f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "api",
            "codec_type": "HTTP2",
            "common_http_protocol_options": {"max_requests_per_connection": requests} if requests else {},
            "route_config": routes("api"),
            "http_filters": [ROUTER],
        }
        certificate = {
            "certificate_chain": {"filename": str(certificates.chain)},
            "private_key": {"filename": str(certificates.key)},
        }
        tls = {
            "@type": f"{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"alpn_protocols": ["h2"], "tls_certificates": [certificate]},
        }
        chain = {
            "filters": [{"name": "http", "typed_config": manager}],
            "transport_socket": {"name": "tls", "typed_config": tls},
        }
        host, port = sandbox.address.rsplit(":", 1)
        endpoint = {"endpoint": {"address": socket_address(host, int(port))}}
        cluster = {
            "name": "api",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "api", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        super().__init__(directory, bootstrap([chain], cluster))


def configuration(servers, idle, health_check):
    """The configuration of docs/mesh.md with other addresses and idle time-out, and with JSON over HTTP."""
    transcoder = {
        "@type": f"{TYPE}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor_bin": base64.b64encode(descriptors()).decode(),
        "services": [SERVICE],
        # POST /package.Service/Method with the request as JSON: the proto needs no HTTP annotations.
        "auto_mapping": True,
        "convert_grpc_status": True,
    }
    config = yaml.safe_load(snippet("Envoy"))
    [listener], [cluster] = (config["static_resources"][part] for part in ("listeners", "clusters"))
    config["admin"] = {"address": socket_address("127.0.0.1", 0)}
    listener["address"] = socket_address("127.0.0.1", 0)
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["stream_idle_timeout"] = f"{idle}s"
    manager["http_filters"].insert(0, {"name": "json", "typed_config": transcoder})
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": socket_address(server.host, server.port)}} for server in servers
    ]
    if health_check:
        cluster["health_checks"] = [health_check]
    return config


def bootstrap(chains, cluster):
    listener = {"name": "front", "address": socket_address("127.0.0.1", 0), "filter_chains": chains}
    return {
        "admin": {"address": socket_address("127.0.0.1", 0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def routes(cluster):
    """Routes that send every request to `cluster`, without a time-out."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
    return {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}


def socket_address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def descriptors():
    """The descriptors of the service and of its errors, with all imports, like from protoc."""
    found = {}

    def add(file):
        if file.name not in found:
            for imported in file.dependencies:
                add(imported)
            found[file.name] = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)

    add(contact_service_pb2.DESCRIPTOR)
    add(error_details_pb2.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString()
