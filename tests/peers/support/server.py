"""The server under test, as a process."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

from . import PATIENCE, program, wait_until
from .sandbox import Steered

ANY_PORT = "127.0.0.1:0"


class Server(Steered):
    """A replica with its own sandbox, unless `environment` names another REST API.

    It keeps its addresses over restarts.
    """

    def __init__(self, directory: Path, *flags, environment=None):
        self.directory = directory
        self.flags = flags if environment else ("--sandbox", *flags)
        self.environment = environment or {}
        self.address = self.admin = ANY_PORT
        self.process = None
        self.starts = 0
        self.start()

    def start(self):
        self.starts += 1
        self.directory.mkdir(exist_ok=True)
        self.log = self.directory / f"log-{self.starts}"
        self.greeting = self.directory / f"greeting-{self.starts}"
        with self.log.open("wb") as stderr, self.greeting.open("wb") as stdout:
            self.process = subprocess.Popen(
                [program("HYPERSENDER_GRPC_BIN"), *self.command()],
                stdout=stdout,
                stderr=stderr,
                # The settings of the person who runs the test must not reach the server.
                env=self.environment,
            )
        self.address, self.admin = wait_until("the server listens", self._listening)

    def command(self):
        """The arguments of the process."""
        return ["serve", "--listen", self.address, "--admin-listen", self.admin, "--log-format", "json", *self.flags]

    def _listening(self):
        assert self.process.poll() is None, self.log.read_text()
        lines = {line.get("message"): line for line in self._lines()}
        if "listening" not in lines:
            return None
        return lines["listening"]["address"], lines["admin listening"]["address"]

    def _lines(self):
        # The last line may be incomplete, and faults of settings are no JSON.
        lines = self.log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]

    def messages(self, level):
        """The messages of this level in the log since the last start."""
        return [line["message"] for line in self._lines() if line["level"] == level]

    @property
    def host(self):
        return self.address.rsplit(":", 1)[0]

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    @property
    def admin_port(self):
        return int(self.admin.rsplit(":", 1)[1])

    def terminate(self):
        """Begin the drain of an orchestrator."""
        self.process.send_signal(signal.SIGTERM)

    def drained(self):
        """Drain to the end and return the seconds that it took. The exit code must be 0."""
        begin = time.monotonic()
        self.terminate()
        self.wait()
        return time.monotonic() - begin

    def wait(self):
        code = self.process.wait(PATIENCE)
        assert code == 0, f"exit code {code}\n{self.log.read_text()}"

    def close(self):
        """Kill the process if it still runs, without a drain."""
        self.process.kill()
        self.process.wait()

    @property
    def sandbox(self):
        """The root URL of its own sandbox."""
        return wait_until(
            "the server has greeted", lambda: re.search(r"(http://\S+)/_sandbox/calls", self.greeting.read_text())
        )[1]

    def memory(self):
        """The resident bytes now, and the most since the last `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(
            1024 * int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) for name in ("VmRSS", "VmHWM")
        )

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
