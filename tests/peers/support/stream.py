"""StreamProfilePictures by each client library, and the messages that the library delivers."""

import base64
import dataclasses
import json
import re
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import grpc

from hypersender.contact.v1.contact_service_pb2 import StreamProfilePicturesRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

from . import PATIENCE, program, tool, wait_until
from .ask import PROTOS, answer
from .envoy import descriptors

CLIENTS = ("grpcio", "grpc-go", "grpc-js", "connect-node")
FIRST = 15_551_400_000


@dataclasses.dataclass
class Asked:
    """The parameters of a stream."""

    contacts: int
    first: int = FIRST
    # The number of results after which the client cancels the call.
    leave_after: int = 0
    service_config: str | None = None
    # The fingerprint that the client knows of each contact. Only grpcio sends it.
    known: str | None = None

    def request(self):
        chat_ids = [str(number) for number in range(self.first, self.first + self.contacts)]
        known = dict.fromkeys(chat_ids, self.known) if self.known else {}
        return StreamProfilePicturesRequest(chat_ids=chat_ids, known_fingerprints=known)


def streams(server):
    """The number of streams that a server has in progress."""
    with urllib.request.urlopen(f"http://{server.admin}/metrics", timeout=PATIENCE) as answer:
        return int(re.search(r"^hypersender_streams (\d+)$", answer.read().decode(), re.MULTILINE)[1])


class Stream:
    """A stream in progress. A client reads it in the background."""

    def __init__(self):
        # The indices of the results, and `done` of each progress message, in the order of their arrival.
        self.indices, self.progress = [], []
        # The answer of ask.py, once the stream has ended.
        self.end = None
        # Seconds without a message at most.
        self.silence = 0
        self._last = time.monotonic()

    def heard(self, index=None, done=None):
        now = time.monotonic()
        self.silence, self._last = max(self.silence, now - self._last), now
        if index is None:
            self.progress.append(done)
        else:
            self.indices.append(index)

    def results(self, count):
        """Wait for this number of results."""
        wait_until(f"{count} results have arrived", lambda: len(self.indices) >= count or self.end)
        assert len(self.indices) >= count, self.end

    def ended(self, seconds=PATIENCE):
        """Wait for the end and return its answer."""
        self._thread.join(seconds)
        assert self.end, f"no end of the stream after {seconds} s {self.faults()}"
        return self.end

    def faults(self):
        """The errors that the client wrote."""
        return ""

    def check(self, contacts):
        """The stream ended with one result for each contact."""
        end = self.ended()
        assert end.code is grpc.StatusCode.OK, end
        assert sorted(self.indices) == list(range(contacts))
        assert self.progress[-1] == contacts, "progress is the last message"

    def _run(self, read):
        def work():
            self.end = read()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()


class Grpcio(Stream):
    def __init__(self, address, asked):
        super().__init__()
        options = [("grpc.use_local_subchannel_pool", 1)]
        if asked.service_config:
            options.append(("grpc.service_config", asked.service_config))
        self._channel = grpc.insecure_channel(address, options=options)
        self.messages = []
        self._call = ContactServiceStub(self._channel).StreamProfilePictures(asked.request())
        self._run(lambda: self._read(asked.leave_after))

    def _read(self, leave_after):
        try:
            for message in self._call:
                self.messages.append(message)
                if message.HasField("progress"):
                    self.heard(done=message.progress.done)
                else:
                    self.heard(index=message.result.index)
                    if len(self.indices) == leave_after:
                        self._call.cancel()
        except grpc.RpcError:
            pass
        status = dict(self._call.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return answer(self._call.code().value[0], self._call.details(), status=base64.b64encode(status))

    def close(self):
        self._call.cancel()
        self._channel.close()


class Program(Stream):
    """One of the clients that are programs of their own."""

    def __init__(self, command):
        super().__init__()
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env={}
        )
        self._run(self._read)

    def _read(self):
        for line in map(json.loads, self._process.stdout):
            if "code" in line:
                return answer(**line)
            self.heard(**line)
        # It has failed or was killed.
        return None

    def faults(self):
        self._process.kill()
        return self._process.stderr.read()

    def close(self):
        self._process.kill()
        self._process.wait()


def stream(client, address, directory, **asked):
    """Begin a stream with `client`. `directory` is for its files."""
    asked = Asked(**asked)
    if client == "grpcio":
        return Grpcio(address, asked)
    assert asked.known is None, "the programs send no fingerprints"
    if client == "grpc-go":
        flags = {"address": address, "first": asked.first, "contacts": asked.contacts}
        flags |= {"leave-after": asked.leave_after, "service-config": asked.service_config or ""}
        return Program([tool("stream"), *(f"-{name}={value}" for name, value in flags.items())])
    node, found = Path(program("NODE_BIN")), directory / "descriptors"
    found.write_bytes(descriptors())
    options = json.dumps(dataclasses.asdict(asked))
    return Program([node, node.parent / "streamer.mjs", client, address, PROTOS, found, options])
