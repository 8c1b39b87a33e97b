"""Servers of Valkey, of Redis from Debian, and a cluster: the stores that replicas share."""

import signal
import socket
import subprocess
import threading

import valkey

from . import PATIENCE, program, wait_until
from .debian import installed

HOST = "127.0.0.1"
# Another program may take the port that was free a moment ago.
STARTS = 5
# The slots of a cluster.
SLOTS = 16384


class Valkey:
    """A server without a file of its own. It keeps its port over restarts, and loses everything in them."""

    scheme = "redis"

    def __init__(self, directory, *settings):
        directory.mkdir()
        self.directory = directory
        self.settings = settings
        self.log = directory / "log"
        self.process = None
        for _ in range(STARTS):
            self.port = free_port()
            if self.start():
                return
        raise AssertionError(self.log.read_text())

    def start(self):
        """Start the server. False if its port is in use."""
        command = [self.program(), "--bind", HOST, *self.ports(), "--dir", str(self.directory)]
        command += ["--save", "", "--appendonly", "no", *self.settings]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={})
        return wait_until("the store listens or ends", self._listening) == "listening"

    def _listening(self):
        if self.process.poll() is not None:
            assert "bind" in self.log.read_text(), self.log.read_text()
            return "ended"
        with socket.socket() as probe:
            return "listening" if probe.connect_ex((HOST, self.port)) == 0 else None

    def program(self):
        return program("VALKEY_BIN")

    def ports(self):
        return "--port", str(self.port)

    @property
    def address(self):
        return f"{HOST}:{self.port}"

    @property
    def url(self):
        return f"{self.scheme}://{self.address}"

    def flags(self):
        """The flags of a service that uses this store."""
        return ["--store", self.url]

    def client(self):
        """A client of the server."""
        return valkey.Valkey(HOST, self.port, socket_timeout=PATIENCE, **self.encryption())

    def encryption(self):
        return {}

    def __call__(self, *command):
        """Run one command and return its reply."""
        with self.client() as client:
            return client.execute_command(*command)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.kill()


class RedisWithTls(Valkey):
    """Redis from Debian, which accepts nothing but TLS."""

    scheme = "rediss"

    def __init__(self, directory, certificates, *settings):
        self.certificates = certificates
        super().__init__(directory, *settings)

    def program(self):
        return installed("redis-server")

    def ports(self):
        files = {"cert": self.certificates.chain, "key": self.certificates.key, "ca-cert": self.certificates.ca}
        named = [part for name, path in files.items() for part in (f"--tls-{name}-file", str(path))]
        return "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", *named

    def flags(self):
        return [*super().flags(), "--store-ca", str(self.certificates.ca)]

    def encryption(self):
        return {"ssl": True, "ssl_ca_certs": str(self.certificates.ca)}


class Node(Valkey):
    """A node of a cluster."""

    def ports(self):
        self.bus = free_port()
        return *super().ports(), "--cluster-enabled", "yes", "--cluster-port", str(self.bus)

    def joined(self, count):
        """Whether the node knows `count` nodes, and that all slots are served."""
        state = self("CLUSTER", "INFO").decode()
        return "cluster_state:ok" in state and f"cluster_known_nodes:{count}\r" in state


class Cluster:
    """Nodes that share the slots evenly."""

    def __init__(self, directory, count=3):
        directory.mkdir()
        self.nodes = []
        try:
            self.nodes += (Node(directory / str(index)) for index in range(count))
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self):
        count = len(self.nodes)
        for index, node in enumerate(self.nodes):
            bounds = [SLOTS * index // count, SLOTS * (index + 1) // count - 1]
            node("CLUSTER", "ADDSLOTSRANGE", *map(str, bounds))
            # Nodes that agree on it later write their files meanwhile, and do not answer.
            node("CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
        first, *others = self.nodes
        for node in others:
            node("CLUSTER", "MEET", HOST, str(first.port), str(first.bus))
        wait_until("the cluster is complete", lambda: all(node.joined(count) for node in self.nodes))

    def flags(self):
        hosts = ",".join(node.address for node in self.nodes)
        return ["--store", f"redis://{hosts}?cluster=true"]

    def close(self):
        for node in self.nodes:
            node.close()


class Monitor:
    """The commands that a store receives, in the words of MONITOR."""

    def __init__(self, store):
        self.client = store.client()
        self.monitor = self.client.monitor().__enter__()
        self.commands = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for command in self.monitor.listen():
                self.commands.append(command["command"])
        except (OSError, ValueError, valkey.ValkeyError):
            # The connection was closed.
            pass

    def close(self):
        self.monitor.connection.disconnect()
        self.client.close()
        self.thread.join(PATIENCE)


def free_port():
    with socket.create_server((HOST, 0)) as free:
        return free.getsockname()[1]
