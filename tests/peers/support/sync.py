"""The examples that sync a CSV file, as processes."""

import collections
import json
import subprocess
import sys

from . import CLIENTS, PATIENCE, tool

PROGRAMS = {
    "grpc-go": lambda: [tool("sync_contacts")],
    "grpcio": lambda: [sys.executable, CLIENTS / "python" / "examples" / "sync_contacts.py"],
}


class Sync:
    """One run for the given contacts."""

    def __init__(self, client, address, directory, chat_ids):
        self.chat_ids = chat_ids
        self.out, self.state, self.said = (directory / name for name in ("out", "state", "said"))
        directory.mkdir(exist_ok=True)
        contacts = directory / "contacts.csv"
        contacts.write_text("\n".join(["chat_id", *chat_ids]))
        flags = ["--server", address, "--out", self.out, "--state", self.state, contacts]
        with self.said.open("w") as stderr:
            self.process = subprocess.Popen(
                [*PROGRAMS[client](), *flags], stderr=stderr, env={"PYTHONPATH": str(CLIENTS / "python")}
            )

    def running(self):
        return self.process.poll() is None

    def known(self):
        """The number of contacts in the state."""
        return len(json.loads(self.state.read_text())) if self.state.exists() else 0

    def breaks(self):
        """How often the stream broke."""
        return self.said.read_text().count("the stream broke")

    def check(self):
        """Check that the run has ended well, with each contact once in the output and in the state."""
        # Every step of a test has PATIENCE; 10,000 contacts are many of them.
        assert self.process.wait(10 * PATIENCE) == 0, self.said.read_text()
        lines = [json.loads(line) for line in self.out.read_text().splitlines()]
        counts = collections.Counter(line["chat_id"] for line in lines)
        assert counts == collections.Counter(self.chat_ids)
        assert {line["outcome"] for line in lines} == {"PRESENT"}
        assert self.known() == len(self.chat_ids)

    def close(self):
        self.process.kill()
        self.process.wait()
