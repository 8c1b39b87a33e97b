"""The example that syncs a CSV file: each change once, whatever breaks."""

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import PATIENCE, numbers

from hypersender.contact import Outcome, Result

EXAMPLE = Path(__file__).parents[1] / "examples" / "sync_contacts.py"


def ids_of(lines):
    return sorted(line["chat_id"] for line in lines)


def test_each_change_is_reported_once(rest_api, start_server, syncing):
    server = start_server("--rate", "0", environment=rest_api.environment)
    outcomes = {"15551230004": "NOT_AVAILABLE", "15551230006": "NOT_ON_WHATSAPP", "abc": "CHAT_ID_INVALID"}
    chat_ids = [*numbers(300), *outcomes]
    sync = syncing([*chat_ids, "", "15552000000"])
    sync.run(server.address)
    first = sync.changes()
    assert ids_of(first) == sorted(chat_ids)
    for line in first:
        assert line["outcome"] == outcomes.get(line["chat_id"], "PRESENT")
        assert ("fingerprint" in line) == (line["outcome"] == "PRESENT")
    asked = rest_api.asked()
    sync.run(server.address)
    assert (sync.changes(), rest_api.asked()) == (first, asked)

    rest_api.order("PUT", "contacts/15552000007", picture="beach")
    rest_api.order("PUT", "contacts/15552000008", picture=None)
    rest_api.order("PUT", "contacts/15551230004", picture="forest")
    # The restart empties the cache.
    server.stop()
    server.start()
    sync.run(server.address)
    sync.run(server.address)
    assert ids_of(sync.changes()[len(first) :]) == ["15551230004", "15552000007", "15552000008"]


def test_a_broken_stream_is_resumed(rest_api, start_server, start_relay, syncing):
    server = start_server("--rate", "0", environment=rest_api.environment)

    def crash(_):
        server.kill()
        server.start()

    def cut(cut):
        cut()

    # Results of 400 contacts have more than 100,000 bytes.
    relay = start_relay(server.address, (10_000, cut), (20_000, crash), (20_000, cut))
    sync = syncing(numbers(400))
    said = sync.run(relay.address)
    assert ids_of(sync.changes()) == numbers(400)
    assert not relay.steps and said.count("the stream broke") >= 3, said
    # The message of gRPC has the cause.
    assert "the stream broke (UNAVAILABLE: " in said and " )" not in said


def test_a_sync_has_flags(address, syncing):
    flags = ["--column", "phone", "--out", "changes.ndjson", "--state", "contacts.csv.state.json"]
    sync = syncing([], *flags, "--instance", "5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47")
    (sync.directory / "contacts.csv").write_text("chat_id,phone\nwrong, 15551230001\nshort\n")
    sync.run(address)
    assert ids_of(sync.changes()) == ["15551230001"]
    # A run was killed in the middle of its last line.
    (sync.directory / "changes.ndjson").write_text('{"chat_id":"1"}\n{"chat_')
    sync.state_path.write_text("{}")
    sync.run(address)
    assert ids_of(sync.changes()) == ["1", "15551230001"]


JPEG = b"\xff\xd8\xff\xe0 a photo"
PNG = b"\x89PNG\r\n\x1a\n a drawing"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 a sticker"


class Images(ThreadingHTTPServer):
    """Serves pictures that are good or bad, and counts the requests."""

    # The usual backlog of 5 makes clients repeat their SYN after a second.
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Image)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.Lock()
        self.asked = 0
        self.healed = False
        # Called with the number of each download, from 1.
        self.on_download = lambda number: None


class Image(BaseHTTPRequestHandler):
    def do_GET(self):
        with self.server.lock:
            self.server.asked += 1
            number = self.server.asked
        self.server.on_download(number)
        kind = self.path.split("?")[0].removeprefix("/")
        bodies = {"png": PNG, "webp": WEBP, "html": b"<html>", "huge": JPEG + bytes(5 << 20), "cut": JPEG}
        body = bodies.get(kind, JPEG)
        if self.server.healed and kind not in ("png", "webp"):
            kind, body = "jpeg", JPEG
        if kind == "closed":
            # The connection ends without an answer.
            return
        self.send_response({"elsewhere": 302, "nowhere": 302, "gone": 404}.get(kind, 200))
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body) + 1000 * (kind == "cut")))
        if kind in ("elsewhere", "nowhere"):
            self.send_header("Location", "/jpeg" if kind == "elsewhere" else "http://[secret/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def images():
    server = Images()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def answer_with(link):
    """The answer of the REST API with a link."""
    return json.dumps({"message": "", "data": {"profilePictureURL": link}})


def test_a_killed_sync_loses_nothing(rest_api, start_server, syncing, images):
    server = start_server("--rate", "0", environment=rest_api.environment)
    rest_api.order("POST", "script", body=answer_with(f"{images.url}/jpeg"))
    sync = syncing(numbers(600), "--pictures", "pictures")
    # Pictures are saved in groups of 100, so that each of these downloads is in the middle of a group.
    kills = [50, 200, 420, 555]
    images.on_download = lambda number: process.kill() if number in kills else None
    halfway = False
    for run in range(len(kills) + 1):
        process = sync.start(server.address)
        _, said = process.communicate(timeout=PATIENCE)
        # The state never has more than the output.
        lines, state = sync.changes(torn=True), sync.state()
        for chat_id, known in state.items():
            assert {"chat_id": chat_id} | known in lines, f"lost after {run + 1} kills"
        halfway |= 0 < len(state) < 600
    assert process.returncode == 0, said
    assert halfway, "every kill came before the first state was written, or after the last"
    assert {line["chat_id"] for line in sync.changes()} == sync.state().keys() == set(numbers(600))


def test_pictures_are_saved(rest_api, start_server, syncing, images):
    server = start_server("--rate", "0", environment=rest_api.environment)
    files = {
        "15552000001": ("jpeg", "15552000001.jpg", JPEG),
        "15552000002@c.us": ("png", "15552000002@c.us.png", PNG),
        "+15552000003": ("webp", "15552000003.webp", WEBP),
        "15552000004": ("html", None, None),
        "15552000005": ("huge", None, None),
        "15552000006": ("elsewhere", None, None),
        "15552000007": ("gone", None, None),
        "15552000008": ("cut", None, None),
        "15552000009": ("closed", None, None),
        "15552000010": ("nowhere", None, None),
    }
    for chat_id, (kind, _, _) in files.items():
        link = f"{images.url}/{kind}?oh=secret"
        rest_api.order("POST", "script", chat_id=chat_id.removeprefix("+"), body=answer_with(link))
    sync = syncing(files, "--pictures", "pictures")
    said = sync.run(server.address, exit_code=1)
    first = sync.changes()
    assert ids_of(first) == sorted(files)
    for line in first:
        _, name, body = files[line["chat_id"]]
        assert (line.get("file"), "fingerprint" in line) == (name, True)
        if name:
            assert (sync.directory / "pictures" / name).read_bytes() == body
        else:
            assert f"{line['chat_id']}: the picture was not saved: " in said
    saved = sum(name is not None for _, name, _ in files.values())
    assert len(list((sync.directory / "pictures").iterdir())) == saved
    assert "secret" not in said and "Traceback" not in said

    # Pictures that could not be saved are tried again, without a second line.
    images.healed = True
    before = images.asked
    sync.run(server.address)
    sync.run(server.address)
    assert images.asked - before == len(files) - saved
    assert sync.changes() == first
    assert len(list((sync.directory / "pictures").iterdir())) == len(files)
    # A picture that somebody removed is saved again.
    removed = sync.directory / "pictures" / "15552000001.jpg"
    removed.unlink()
    sync.run(server.address)
    assert removed.read_bytes() == JPEG


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("sync_contacts", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_state_is_never_ahead_of_the_output(example, tmp_path):
    store = example.Store(tmp_path / "state.json", tmp_path / "changes.ndjson", None)
    store.out.close()
    store.add(Result(0, "1", Outcome.ABSENT))
    # Without a buffer, closing it does not write again what could not be written.
    with open("/dev/full", "wb", buffering=0) as store.out, pytest.raises(OSError, match="No space left"):
        store.commit()
    assert not store.state_path.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b"', b'{"a":1}\n'),
        (b'{"b"', b""),
        (b"a note", b"a note\n"),
        (b'{"a":1}\na note', b'{"a":1}\na note\n'),
        pytest.param(b"x" * 70_000, b"x" * 70_000 + b"\n", id="a long foreign line"),
        pytest.param(b"x{" * 40_000, b"x{" * 40_000 + b"\n", id="a long foreign line with braces"),
    ],
)
def test_only_an_unfinished_line_of_its_own_is_removed(example, tmp_path, before, after):
    path = tmp_path / "changes.ndjson"
    path.write_bytes(before)
    with path.open("a+b") as file:
        example.drop_torn_line(file)
    assert path.read_bytes() == after


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://pps.whatsapp.net/p.jpg", True),
        ("http://127.0.0.1:50080/p.jpg", True),
        ("http://[::1]:50080/p.jpg", True),
        ("http://localhost/p.jpg", True),
        ("http://pps.whatsapp.net/p.jpg", False),
        ("http://169.254.169.254/latest", False),
        ("http://127.0.0.1@192.0.2.1/p.jpg", False),
        ("http://127.0.0.1.example.com/p.jpg", False),
        ("ftp://127.0.0.1/p.jpg", False),
        ("file:///etc/passwd", False),
        ("https:///p.jpg", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_links_are_fetched_by_https_or_from_this_machine(example, link, expected):
    assert example.may_be_fetched(link) == expected
