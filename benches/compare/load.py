"""Load on a server, from a separate core."""

import contextlib
import json
import re
import statistics
import struct
import subprocess
import time
from pathlib import Path

from servers import LOAD_CORE, PATIENCE, TOKEN, pinned, program

PATH = "/hypersender.contact.v1.ContactService/GetProfilePicture"
HEADERS = ("content-type: application/grpc", "te: trailers", f"authorization: Bearer {TOKEN}")
# The contact that h2load asks for.
CONTACT = "15560000000"


def run(server, *flags):
    """The result of a run of the program in benches/load, and the CPU seconds of the server."""
    command = [program("LOAD_BIN"), "--address", server.address, "--token", TOKEN, *map(str, flags)]
    return measured(server, lambda: json.loads(finished(pinned(LOAD_CORE, command))))


def stream(server, *flags):
    """The seconds until a part of the results of a stream have arrived."""
    command = [program("LOAD_BIN"), "--address", server.address, "--token", TOKEN, *map(str, flags)]
    return json.loads(finished(pinned(LOAD_CORE, command)))["seconds"]


@contextlib.contextmanager
def held(server, *flags):
    """The same streams, open until the end of the context."""
    command = [program("LOAD_BIN"), "--address", server.address, "--token", TOKEN, "--hold", *map(str, flags)]
    process = subprocess.Popen(pinned(LOAD_CORE, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line, f"{' '.join(command)} failed"
        yield json.loads(line)
    finally:
        process.communicate(timeout=PATIENCE)


def by_h2load(server, calls, *flags):
    """The same with h2load, which asks for one contact only and ignores the answers."""
    log = server.directory / "h2load"
    log.unlink(missing_ok=True)
    command = ["h2load", "-n", str(calls), *flags, "-d", str(request(server.directory)), "--log-file", str(log)]
    command += [part for header in HEADERS for part in ("-H", header)] + [f"http://{server.address}{PATH}"]

    def load():
        output = finished(pinned(LOAD_CORE, command))
        assert f"{calls} succeeded" in output, output
        took = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        rate = float(re.search(r"([\d.]+) req/s", output)[1])
        p50, p99 = statistics.median(took), took[len(took) * 99 // 100]
        return {"calls": calls, "empty": 0, "seconds": calls / rate, "p50_us": p50, "p99_us": p99}

    return measured(server, load)


def measured(server, load):
    before = server.cpu()
    result = load()
    # The CPU time of a thread lacks less than one tick of the operating system.
    time.sleep(0.01)
    assert result["empty"] == 0, f"{server.name}: {result['empty']} of {result['calls']} calls failed"
    return result | {"cpu_us": (server.cpu() - before) * 1e6 / result["calls"]}


def finished(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def request(directory):
    """A file with a request message and its prefix, for DATA frames."""
    chat = CONTACT.encode()
    message = struct.pack("BB", 0x12, len(chat)) + chat
    path = Path(directory) / "request"
    path.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    return path


def check(server):
    """Checks one call with the client of nghttp2: the gRPC status, or the page of a plain server."""
    command = ["nghttp", "-v", "-t", "5", "-d", str(request(server.directory))]
    command += [part for header in HEADERS for part in ("-H", header)]
    command.append(f"http://{server.address}{PATH}")
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    plain = re.sub(rb"\x1b\[[\d;]*m", b"", done.stdout)
    wanted = b":status: 200" if server.name == "nginx" else b"grpc-status: 0"
    assert wanted in plain, f"{server.name}: {plain!r}"
