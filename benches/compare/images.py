"""Compares an image in the memory of the service with the same one in the cache of nginx, over HTTP/1.1."""

import contextlib
import random
import re
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from load import finished, measured
from ratios import middle
from servers import HERE, LOAD_CORE, PATH, PATIENCE, Server, pinned, program, wait_until

CONTACT = "15551230001"
ROUNDS = 15
# The requests of a slice, which take about half a second.
REQUESTS = 30_000
CONNECTIONS = 32
SHAPES = ("96 px", "304")
# The goals: requests a second beside nginx.
MUST, AIM = 0.7, 1.0


class Service(Server):
    """The service with its sandbox, which no request reaches once the image is in memory."""

    name = "this service"

    def __init__(self, directory):
        ports = "--listen 127.0.0.1:0 --admin-listen off --avatars-listen 127.0.0.1:0 --log-format json".split()
        super().__init__(directory, [program("HYPERSENDER_GRPC_BIN"), "serve", "--sandbox", *ports])

    def _listening(self):
        found = re.search(r'"message":"avatars listening","address":"([^"]*)"', self.log.read_text())
        grpc = re.search(r'"message":"listening","address":"([^"]*)"', self.log.read_text())
        self.grpc = grpc and grpc[1]
        return found and grpc and found[1]

    def path(self):
        """The address of the image of a contact, which gRPC hands out."""
        command = [program("HYPERSENDER_GRPC_BIN"), "get", "--address", self.grpc, "--output", "json", CONTACT]
        return re.search(r"(/avatars/[\w-]+)", finished(command))[1] + "?size=96"


class Nginx(Server):
    """nginx with a cache of files in front of the service."""

    name = "nginx"

    def __init__(self, directory, origin):
        # nginx cannot choose a free port and print it.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        config = directory.with_suffix(".conf")
        config.write_text((HERE / "nginx_images.conf").read_text() % {"port": self._port, "origin": origin})
        super().__init__(directory, [shutil.which("nginx", path=PATH), "-p", str(directory), "-c", str(config)])

    def _listening(self):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._port)):
            return f"127.0.0.1:{self._port}"


def image(server, path):
    """The image and its tag, once there is one."""

    def fetched():
        with urllib.request.urlopen(f"http://{server.address}{path}", timeout=PATIENCE) as answer:
            is_picture = answer.headers["avatar-status"] == "present"
            return (answer.read(), answer.headers["etag"]) if is_picture else None

    return wait_until("there is a picture", fetched)


def run(server, path, tag):
    """Requests a second, and CPU seconds for each; with a tag, every response must be a 304."""
    command = ["h2load", "--h1", "-n", str(REQUESTS), "-c", str(CONNECTIONS), f"http://{server.address}{path}"]
    command += ["-H", f"if-none-match: {tag}"] if tag else []

    def load():
        output = finished(pinned(LOAD_CORE, command))
        wanted = f"{REQUESTS} {'3xx' if tag else '2xx'}"
        assert wanted in output, output
        return {"calls": REQUESTS, "empty": 0, "rate": float(re.search(r"([\d.]+) req/s", output)[1])}

    return measured(server, load)


def compare(directory):
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(directory / "service"))
        nginx = stack.enter_context(Nginx(directory / "nginx", service.address))
        path = service.path()
        (jpeg, tag), (same, _) = image(service, path), image(nginx, path)
        assert jpeg == same, "nginx serves other bytes"
        rounds = {shape: [] for shape in SHAPES}
        for _ in range(ROUNDS):
            slices = [(shape, server) for shape in SHAPES for server in (service, nginx)]
            random.shuffle(slices)
            results = {pair: run(pair[1], path, tag if pair[0] == "304" else None) for pair in slices}
            for shape in SHAPES:
                rounds[shape].append((results[shape, service], results[shape, nginx]))
            time.sleep(0.01)
    yield f"{len(jpeg)} bytes, {CONNECTIONS} connections of HTTP/1.1, {ROUNDS} rounds of {REQUESTS} requests"
    yield ""
    yield "|  | nginx, requests a second | this service | CPU per request | must | aim |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for shape, pairs in rounds.items():
        rate = middle([own["rate"] / other["rate"] for own, other in pairs])
        cpu = middle([own["cpu_us"] / other["cpu_us"] for own, other in pairs])
        base = middle([other["rate"] for _, other in pairs]).value
        yield f"| {shape} | {base:,.0f} | {rate} x | {cpu} x | {MUST} x | {AIM} x |"


def main():
    with tempfile.TemporaryDirectory() as directory:
        for line in compare(Path(directory)):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
