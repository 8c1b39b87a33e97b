"""The server under test with its sandbox, seen through the port of the avatars."""

import json
import urllib.error
import urllib.request

from support import PATIENCE
from support.server import ANY_PORT, Server


class Sandboxed(Server):
    """A server whose port of the avatars takes any free port."""

    def __init__(self, directory, *flags):
        super().__init__(directory, "--avatars-listen", ANY_PORT, *flags)

    @property
    def avatars(self):
        """The address of the port of the avatars."""
        return next(line["address"] for line in self._lines() if line.get("message") == "avatars listening")

    @property
    def root(self):
        return f"http://{self.avatars}/"

    def state(self):
        """The contacts by number, and what upstream was asked."""
        with urllib.request.urlopen(f"{self.root}_page/state", timeout=PATIENCE) as answer:
            state = json.load(answer)
        return {contact["number"]: contact for contact in state["contacts"]}, state["upstream"]

    def break_links(self, **script):
        """Script downloads; see `hypersender-grpc sandbox --help`."""
        self._order("POST", "cdn", json.dumps(script).encode())

    def image(self, number, size=96):
        """The headers and the bytes of an image, as a program gets them."""
        address = self.state()[0][number]["avatar"]
        with urllib.request.urlopen(f"{self.root[:-1]}{address}?size={size}", timeout=PATIENCE) as answer:
            return answer.headers, answer.read()
