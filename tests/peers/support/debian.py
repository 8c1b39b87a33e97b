"""nginx, HAProxy and Redis from Debian. If a program is not installed, its tests are skipped.

PEERS_REQUIRE is a list of the required programs, separated by commas. They are never skipped.
"""

import getpass
import os
import shutil
import socket
import subprocess

import pytest

from . import wait_until
from .mesh import filled, snippet

# The address of a replica in docs/mesh.md.
PLACE = "contacts-1.internal:50051"
# The folder of servers in Debian, which may be missing in PATH.
SERVERS = "/usr/sbin:/usr/bin"


def installed(name):
    """The path of a program. Without it the test is skipped or fails."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SERVERS}")
    if path is None and name in os.environ.get("PEERS_REQUIRE", "").split(","):
        pytest.fail(f"{name} is required and not installed")
    if path is None:
        pytest.skip(f"{name} is not installed: `apt-get install {name}`, as .ci/run does")
    return path


class Proxy:
    """A proxy from Debian on a free port."""

    name = None

    def __init__(self, directory):
        directory.mkdir()
        self.directory = directory
        program = installed(self.name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host, self.port = free.getsockname()
        self.address = f"{self.host}:{self.port}"
        config, self.log = directory / "config", directory / "log"
        config.write_text(self.configuration())
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([program, *self.flags(config)], stdout=log, stderr=log, env={})
        wait_until(f"{self.name} listens", self._listening)

    def _listening(self):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0

    def close(self):
        # The process stops in an orderly way, because its worker process would outlive a kill.
        self.process.terminate()
        self.process.wait()


class Nginx(Proxy):
    name = "nginx"

    def flags(self, config):
        return "-p", self.directory, "-e", "stderr", "-c", config

    def configuration(self):
        folders = "\n".join(
            f"    {kind}_temp_path {self.directory}/{kind};" for kind in "client_body proxy fastcgi uwsgi scgi".split()
        )
        return f"""
daemon off;
user {getpass.getuser()};
worker_processes 1;
pid {self.directory}/pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
{folders}
{self.servers()}
}}
"""


class NginxOfReplicas(Nginx):
    """The server of docs/mesh.md. A call that is silent for `idle` seconds is ended."""

    def __init__(self, directory, servers, idle=60):
        self.replicas, self.idle = servers, idle
        super().__init__(directory)

    def servers(self):
        [line] = [line for line in snippet("nginx").splitlines(keepends=True) if PLACE in line]
        return filled(
            snippet("nginx"),
            {
                line: "".join(line.replace(PLACE, server.address) for server in self.replicas),
                "listen 8443 ": f"listen {self.address} ",
                "grpc_read_timeout 60s;": f"grpc_read_timeout {self.idle}s;",
            },
        )


class NginxOfApi(Nginx):
    """HTTP/2 over TLS in front of a REST API. Connections end after `requests`."""

    def __init__(self, directory, sandbox, certificates, requests):
        self.sandbox, self.certificates, self.requests = sandbox, certificates, requests
        super().__init__(directory)

    def servers(self):
        return f"""
    server {{
        listen {self.address} ssl http2;
        ssl_certificate {self.certificates.chain};
        ssl_certificate_key {self.certificates.key};
        keepalive_requests {self.requests};
        location / {{ proxy_pass http://{self.sandbox.address}; }}
    }}
"""


class HaproxyOfReplicas(Proxy):
    """The configuration of docs/mesh.md, whose health checks use the admin ports.

    Calls without a message for `idle` seconds are ended.
    """

    name = "haproxy"

    def __init__(self, directory, servers, idle=60):
        self.replicas, self.idle = servers, idle
        super().__init__(directory)

    def flags(self, config):
        return "-db", "-f", config

    def configuration(self):
        [line] = [line for line in snippet("HAProxy").splitlines(keepends=True) if PLACE in line]
        servers = [
            filled(line, {"contacts-1 ": f"{server.address} ", PLACE: server.address, "port 9090": f"port {server.admin_port}"})
            for server in self.replicas
        ]
        return filled(
            snippet("HAProxy"),
            {
                line: "".join(servers),
                "bind :8443 ": f"bind {self.address} ",
                "timeout client 60s": f"timeout client {self.idle}s",
                "timeout server 60s": f"timeout server {self.idle}s",
            },
        )
