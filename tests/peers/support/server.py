"""The server under test, as a process."""

import json
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from . import PATIENCE, program, wait_until


class Server:
    """A replica with a stand-in for the REST API. It keeps its address when it is started again."""

    def __init__(self, directory: Path, *flags):
        self.directory = directory
        self.flags = flags
        self.address = "127.0.0.1:0"
        self.process = None
        self.starts = 0
        self.start()

    def start(self):
        self.starts += 1
        self.directory.mkdir(exist_ok=True)
        self.log = self.directory / f"log-{self.starts}"
        self.greeting = self.directory / f"greeting-{self.starts}"
        command = [program("HYPERSENDER_GRPC_BIN"), "serve", "--sandbox", "--listen", self.address]
        with self.log.open("wb") as stderr, self.greeting.open("wb") as stdout:
            self.process = subprocess.Popen(
                [*command, "--log-format", "json", *self.flags],
                stdout=stdout,
                stderr=stderr,
                # The settings of whoever runs the test must not reach the server.
                env={},
            )
        self.address = wait_until("the server listens", self._listening)

    def _listening(self):
        assert self.process.poll() is None, self.log.read_text()
        for line in self.log.read_text().splitlines(keepends=True):
            # The last line may not be whole yet.
            if line.endswith("\n") and json.loads(line).get("message") == "listening":
                return json.loads(line)["address"]
        return None

    @property
    def host(self):
        return self.address.rsplit(":", 1)[0]

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def terminate(self):
        """Begin the drain of an orchestrator."""
        self.process.send_signal(signal.SIGTERM)

    def drained(self):
        """Drain to the end; the seconds it took. The exit code must be 0."""
        begin = time.monotonic()
        self.terminate()
        self.wait()
        return time.monotonic() - begin

    def wait(self):
        code = self.process.wait(PATIENCE)
        assert code == 0, f"exit code {code}\n{self.log.read_text()}"

    def close(self):
        """End it, if nothing has: at once, and without a drain."""
        self.process.kill()
        self.process.wait()

    def asked(self):
        """The chat ids that this replica has looked up since its start."""
        found = re.search(r"http://\S+/_sandbox/calls", self.greeting.read_text())
        with urllib.request.urlopen(found[0], timeout=PATIENCE) as answer:
            return json.load(answer)["by_chat_id"]

    def memory(self):
        """Resident bytes: now, and at most since the last `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(
            1024 * int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) for name in ("VmRSS", "VmHWM")
        )

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
