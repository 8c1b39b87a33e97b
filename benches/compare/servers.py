"""The compared servers. Each one is a process, on another core than the load."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
TOKEN = "bench-token"
# The size of the message of an answer, like in `bare` and the other servers.
REPLY_BYTES = 217
# The cores. Load and servers never share one.
SERVERS_CORE, LOAD_CORE = 0, 1
# The folder of nginx in Debian may be missing in PATH.
PATH = f"{os.environ['PATH']}:/usr/sbin"
# Seconds. Every step takes far less, so that only a process that hangs reaches it.
PATIENCE = 60

CALLERS = f"""[callers.bench]
token_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
instances = ["*"]
"""
# Images for browsers, whose addresses go to those callers that the callers file names.
AVATARS = {
    "HYPERSENDER_GRPC_AVATARS_LISTEN": "127.0.0.1:0",
    "HYPERSENDER_GRPC_AVATARS_URL": "https://avatars.example.com",
    "HYPERSENDER_GRPC_AVATARS_KEY": hashlib.sha256(b"bench").hexdigest(),
}
# The limits protect Hypersender, which is not used here. All other settings are like in production.
NO_UPSTREAM_LIMITS = "--rate 0 --burst 0 --breaker-failures 0 --upstream-concurrency 1024".split()


def program(variable):
    path = os.environ.get(variable, "")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{variable} must be the path of a program, is {path!r}: see `make bench-speed`")
    return path


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


def wait_until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s in vain until {what}")


class Server:
    """A process whose first line of output is its address. `under` is a command such as valgrind."""

    name = None

    def __init__(self, directory, command, *, core=SERVERS_CORE, under=(), env=None):
        directory.mkdir()
        self.directory = directory
        self.output, self.log = directory / "output", directory / "log"
        command = [*under, *command] if core is None else pinned(core, [*under, *command])
        with self.output.open("wb") as stdout, self.log.open("wb") as stderr:
            # The settings of the person who runs this must not reach a server.
            self.process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=env or {})
        try:
            self.address = wait_until(f"{type(self).__name__} listens", self._checked)
        except BaseException:
            self.close()
            raise

    def _checked(self):
        assert self.process.poll() is None, self.log.read_text()
        return self._listening()

    def _listening(self):
        line, end, _ = self.output.read_text().partition("\n")
        return line if end else None

    def cpu(self):
        """The CPU seconds of its threads."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.kill()
        self.process.wait()


class Bare(Server):
    name = "bare tonic"

    def __init__(self, directory, under=()):
        super().__init__(directory, [program("BARE_BIN")], under=under)


class Go(Server):
    name = "gRPC Go"

    def __init__(self, directory):
        super().__init__(directory, [program("GO_BIN")])


class Aio(Server):
    name = "grpc.aio"

    def __init__(self, directory):
        clients = HERE.parents[1] / "clients" / "python"
        super().__init__(directory, [sys.executable, str(HERE / "aio.py")], env={"PYTHONPATH": str(clients)})


class Nginx(Server):
    """The cost of HTTP/2 in C without gRPC: one page with the length of the other answers."""

    name = "nginx"

    def __init__(self, directory):
        # nginx cannot choose a free port and print it.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        config = directory.with_suffix(".conf")
        config.write_text((HERE / "nginx.conf").read_text() % {"port": self._port, "page": "a" * REPLY_BYTES})
        super().__init__(directory, [shutil.which("nginx", path=PATH), "-p", str(directory), "-c", str(config)])

    def _listening(self):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._port)):
            return f"127.0.0.1:{self._port}"


class Sandbox(Server):
    """The sandbox as a separate process, so that its cost does not count for the service."""

    def __init__(self, directory):
        super().__init__(directory, [program("HYPERSENDER_GRPC_BIN"), "sandbox", "--listen", "127.0.0.1:0"], core=None)

    def _listening(self):
        found = dict(line.split("=", 1) for line in self.output.read_text().splitlines() if "=" in line)
        self.settings = found
        return found.get("HYPERSENDER_WHATSAPP_INSTANCE_ID") and found["HYPERSENDER_WHATSAPP_BASE_URL"].split("/")[2]

    def answer_with(self, link):
        """From now on, every look-up gets this link."""
        body = json.dumps({"message": "Profile picture retrieved successfully.", "data": {"profilePictureURL": link}})
        script = json.dumps({"headers": {"content-type": "application/json"}, "body": body})
        self._ask("DELETE")
        self._ask("POST", script.encode())

    def _ask(self, method, data=None):
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"http://{self.address}/_sandbox/script", data, headers, method=method)
        urllib.request.urlopen(request, timeout=PATIENCE).close()


class Valkey(Server):
    """The store of replicas. It has nothing to do with hits."""

    def __init__(self, directory):
        # Valkey cannot choose a free port and print it.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        flags = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__(directory, [program("VALKEY_BIN"), *flags, "--dir", str(directory)], core=None)

    def _listening(self):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._port)):
            return f"127.0.0.1:{self._port}"

    def operations(self):
        """The number of scripts that it has run for a service."""
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as connection:
            connection.sendall(b"INFO commandstats\r\nQUIT\r\n")
            reply = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        return sum(map(int, re.findall(r"cmdstat_eval(?:sha)?:calls=(\d+)", reply)))


class Service(Server):
    """The service. `limits` are flags.

    `production` adds a callers file and the admin port, and `store` a shared store. `avatars` adds images for
    browsers; it says whether the caller gets their addresses.
    """

    name = "this service"

    def __init__(
        self, directory, sandbox, *, production=True, store=None, avatars=None, limits=NO_UPSTREAM_LIMITS, under=()
    ):
        flags = ["--listen", "127.0.0.1:0", "--log-format", "json", "--cache-entries", "200000", *limits]
        if store:
            # Under valgrind, an operation takes longer than it may in production.
            flags += ["--store", f"redis://{store.address}", "--store-timeout", "5s"]
        callers = directory.with_suffix(".toml")
        callers.write_text(f"{CALLERS}avatars = true\n" if avatars else CALLERS)
        if production:
            flags += ["--callers-file", str(callers), "--admin-listen", "127.0.0.1:0"]
        else:
            flags += ["--admin-listen", "off"]
        command = [program("HYPERSENDER_GRPC_BIN"), "serve", *flags]
        env = sandbox.settings if avatars is None else sandbox.settings | AVATARS
        super().__init__(directory, command, under=under, env=env)

    def _listening(self):
        return self._address("listening")

    def _address(self, message):
        found = re.search(rf'"message":"{message}","address":"([^"]*)"', self.log.read_text())
        return found and found[1]

    def lookups(self):
        """The number of look-ups by cache status."""
        with urllib.request.urlopen(f"http://{self._address('admin listening')}/metrics", timeout=PATIENCE) as answer:
            found = re.findall(r'hypersender_cache_lookups_total\{status="(\w+)"\} (\d+)', answer.read().decode())
        return {status: int(count) for status, count in found}
