"""The sandbox, the stand-in for the REST API: tests script its answers and read its requests."""

import json
import subprocess
import urllib.request

from . import PATIENCE, program, wait_until


class Steered:
    """An object with a sandbox, whose root URL is `sandbox`."""

    def asked(self):
        """The number of look-ups of each chat id since the start."""
        return json.loads(self._order("GET", "calls"))["by_chat_id"]

    def script(self, **script):
        """Script the answers; see `hypersender-grpc sandbox --help`."""
        self._order("POST", "script", json.dumps(script).encode())

    def unscript(self):
        """Remove all scripts."""
        self._order("DELETE", "script")

    def _order(self, method, what, body=None):
        order = urllib.request.Request(f"{self.sandbox}/_sandbox/{what}", method=method, data=body)
        with urllib.request.urlopen(order, timeout=PATIENCE) as answer:
            return answer.read()


class Sandbox(Steered):
    """The sandbox as a separate process."""

    def __init__(self, directory):
        directory.mkdir()
        greeting = directory / "greeting"
        with greeting.open("wb") as stdout:
            self.process = subprocess.Popen(
                [program("HYPERSENDER_GRPC_BIN"), "sandbox", "--listen", "127.0.0.1:0"], stdout=stdout, env={}
            )
        lines = wait_until("the stand-in listens", lambda: whole(greeting.read_text()))
        # The settings of a server that asks this sandbox.
        self.settings = dict(line.split("=", 1) for line in lines)
        self.base_url = self.settings["HYPERSENDER_WHATSAPP_BASE_URL"]
        self.sandbox = "/".join(self.base_url.split("/", 3)[:3])
        self.address = self.sandbox.removeprefix("http://")

    def reached_at(self, address, ca=None):
        """The settings of a server that asks this sandbox through `address`, with TLS if there is a `ca`."""
        scheme = "https" if ca else "http"
        base_url = self.base_url.replace(self.sandbox, f"{scheme}://{address}")
        trusted = {"SSL_CERT_FILE": str(ca)} if ca else {}
        return self.settings | {"HYPERSENDER_WHATSAPP_BASE_URL": base_url} | trusted

    def close(self):
        self.process.kill()
        self.process.wait()


def whole(greeting):
    lines = [line for line in greeting.splitlines() if "=" in line]
    return lines if len(lines) == 3 and greeting.endswith("\n") else None
