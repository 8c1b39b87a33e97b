"""The fixtures: the server, its stand-in for the REST API, a relay that breaks connections, and examples."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from support import PATIENCE, Loop, Servers, Threads

EXAMPLES = Path(__file__).parents[1] / "examples"
ANY_PORT = "127.0.0.1:0"


def binary():
    path = os.environ.get("HYPERSENDER_GRPC_BIN", "")
    if not (os.path.isabs(path) and os.path.isfile(path)):
        pytest.fail(
            f"HYPERSENDER_GRPC_BIN must be the absolute path of the built server, is {path!r}: see `make test-python`"
        )
    return path


def wait_until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain until {what}")


class Server:
    """A server that keeps its address over restarts. An empty `environment` means a sandbox of its own."""

    def __init__(self, directory, *flags, environment):
        self.directory, self.environment = directory, environment
        self.flags = flags if environment else (*flags, "--sandbox")
        self.address = ANY_PORT
        self.starts = 0
        self.start()

    def start(self):
        self.starts += 1
        self.log = self.directory / f"log-{self.starts}"
        command = [binary(), "serve", "--listen", self.address, "--admin-listen", "off", "--log-format", "json"]
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, *self.flags],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                # The settings of whoever runs the test must not reach the server.
                env=self.environment,
            )
        self.address = wait_until("the server listens", self.listening)

    def listening(self):
        assert self.process.poll() is None, "the server ended before it listened"
        for line in self.log.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                # The last line may be incomplete.
                continue
            if entry.get("message") == "listening":
                return entry["address"]
        return None

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 0

    def kill(self):
        """End the server like a crash."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_server(tmp_path):
    servers = []

    def start(*flags, environment=None):
        directory = tmp_path / f"server-{len(servers)}"
        directory.mkdir()
        servers.append(Server(directory, *flags, environment=environment or {}))
        return servers[-1]

    yield start
    try:
        for server in servers:
            if server.process.poll() is None:
                server.stop()
    finally:
        for server in servers:
            server.kill()
            # pytest shows it when the test fails.
            print(server.log.read_text())


@pytest.fixture
def address(start_server):
    """The address of a server with a sandbox of its own."""
    return start_server().address


@pytest.fixture(params=[Threads, Loop])
def connect(request):
    """Opens clients, for threads in one run of the test and for asyncio in another."""
    clients = request.param()
    yield clients
    clients.close()


@pytest.fixture
def client(address, connect):
    return connect(address)


@pytest.fixture
def serve():
    """Starts servers whose answers the test chooses."""
    servers = Servers()
    yield servers
    servers.close()


class RestApi:
    """The sandbox as a process of its own, which outlives restarts of the server."""

    def __init__(self, greeting):
        with greeting.open("wb") as stdout:
            self.process = subprocess.Popen([binary(), "sandbox", "--listen", ANY_PORT], stdout=stdout, env={})

        def greeted():
            settings = re.findall(r"^(HYPERSENDER_\w+)=(.+)\n", greeting.read_text(), re.MULTILINE)
            return dict(settings) if len(settings) == 3 else None

        # The settings of a server that asks this sandbox.
        self.environment = wait_until("the sandbox listens", greeted)
        self.root = self.environment["HYPERSENDER_WHATSAPP_BASE_URL"].removesuffix("/api/whatsapp/v2")

    def order(self, method, path, **body):
        """Call the control of the sandbox; see `hypersender-grpc sandbox --help`."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.root}/_sandbox/{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.read()

    def asked(self):
        """The number of look-ups since the start."""
        return sum(json.loads(self.order("GET", "calls"))["by_chat_id"].values())


@pytest.fixture
def rest_api(tmp_path):
    api = RestApi(tmp_path / "greeting")
    yield api
    api.process.kill()
    api.process.wait()


class Relay:
    """Forwards connections to a server.

    Each of the steps, a number of bytes and a function, is taken once: when a connection has carried so many
    bytes from the server. The function gets another one that cuts the connection.
    """

    def __init__(self, target, *steps):
        self.target = target.rsplit(":", 1)
        self.steps = list(steps)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:{1}".format(*self.listener.getsockname())
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        with client:
            try:
                server = socket.create_connection(self.target)
            except OSError:
                return
            with server:
                threading.Thread(target=self.copy, args=(client, server), daemon=True).start()
                step = self.steps[0] if self.steps else None
                if self.copy(server, client, step[0] if step else None) and step:
                    self.steps.remove(step)
                    step[1](lambda: reset(client))
                    self.copy(server, client)

    @staticmethod
    def copy(source, target, number=None):
        """Copy `number` bytes, or all of them, and return whether that many came."""
        try:
            while number is None or number > 0:
                piece = source.recv(min(number or 1 << 16, 1 << 16))
                if not piece:
                    target.shutdown(socket.SHUT_WR)
                    return False
                target.sendall(piece)
                number = None if number is None else number - len(piece)
        except OSError:
            # Closing the connection would wait for the thread that reads from it.
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            return False
        return True


def reset(connection):
    """Close without a FIN: the peer sees a reset, as from a router that has lost the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # close alone would wait for the thread that reads from it.
    connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def start_relay():
    relays = []

    def start(*arguments):
        relays.append(Relay(*arguments))
        return relays[-1]

    yield start
    for relay in relays:
        relay.listener.close()


@pytest.fixture
def run_example():
    """Run an example to its end."""

    def run(name, *arguments, directory=None):
        return subprocess.run(
            [sys.executable, EXAMPLES / name, *arguments],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    return run


class Syncing:
    """A directory with a CSV file, in which the example sync_contacts runs."""

    def __init__(self, directory, chat_ids, *flags):
        self.directory, self.flags = directory, flags
        self.state_path = directory / "contacts.csv.state.json"
        # The form that spreadsheets write, with a column before the one that counts.
        rows = "".join(f'"Contact, {chat_id}",{chat_id}\r\n' for chat_id in chat_ids)
        (directory / "contacts.csv").write_bytes(f"\ufeffname,chat_id\r\n{rows}".encode())

    def start(self, server):
        return subprocess.Popen(
            [sys.executable, EXAMPLES / "sync_contacts.py", *self.flags, "--server", server, "contacts.csv"],
            cwd=self.directory,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, server, exit_code=0):
        """Run the example to its end and return what it says on standard error."""
        process = self.start(server)
        _, said = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == exit_code, said
        return said

    def changes(self, torn=False):
        """The lines of the output. All must be complete, unless the last one is allowed to be torn."""
        path = self.directory / "changes.ndjson"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if torn and lines and not lines[-1].endswith("\n"):
            lines.pop()
        return [json.loads(line) for line in lines]

    def state(self):
        return json.loads(self.state_path.read_bytes()) if self.state_path.exists() else {}


@pytest.fixture
def syncing(tmp_path):
    def syncing(chat_ids, *flags):
        directory = tmp_path / "sync"
        directory.mkdir()
        return Syncing(directory, chat_ids, *flags)

    return syncing
