"""Nothing that a store holds or receives reveals a phone number, a chat id, a link or a token."""

import hashlib
import itertools
import time
from pathlib import Path

import pytest

from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

import grpc

from support import PATIENCE
from support.replicas import Replicas, contacts, look_up
from support.sandbox import Sandbox
from support.server import Server
from support.valkey import Monitor, Valkey

CHAT_IDS = contacts(50)
# Contacts that fail, are missing or have no picture.
SPECIAL = ["15551230004", "15551230006", "15551230009", "15551230010"]
HASHES = ["md5", "sha1", "sha256", "sha512", "blake2b", "blake2s", "sha3_256"]


@pytest.fixture(scope="module")
def hashes():
    """The beginnings of unkeyed hashes of all numbers that a guess would try, in the forms of a chat id."""
    numbers = [str(number) for number in range(int(CHAT_IDS[0]) - 5_000, int(CHAT_IDS[0]) + 5_000)]
    forms = [form for number in numbers for form in (number, f"{number}@c.us", f"chat\0{number}")]
    return {
        hashlib.new(name, form.encode()).digest()[:8] for name, form in itertools.product(HASHES, forms)
    }


def marks(sandbox, address):
    """What must not be found: numbers, the parts of links, the token, the instance."""
    with grpc.insecure_channel(address) as channel:
        stub = ContactServiceStub(channel)
        request = GetProfilePictureRequest(chat_id=CHAT_IDS[0])
        url = stub.GetProfilePicture(request, timeout=PATIENCE).profile_picture.url
    path, _, query = url.rpartition("?")
    token = sandbox.settings["HYPERSENDER_WHATSAPP_API_KEY"]
    instance = sandbox.settings["HYPERSENDER_WHATSAPP_INSTANCE_ID"]
    parts = [path.rpartition("/")[2], *(part.partition("=")[2] for part in query.split("&") if "oh=" in part)]
    return [*CHAT_IDS, *SPECIAL, *parts, "/v/t61", token, token.partition("|")[2] or token, instance]


def assert_hidden(data, marks, hashes):
    """`data` holds none of the marks, and no hash that could be guessed, as bytes or in hexadecimal."""
    lower = data.lower()
    for mark in marks:
        forms = [mark.encode(), mark.encode().hex().encode(), mark.encode()[::-1]]
        assert not any(form.lower() in lower for form in forms), mark
    windows = {data[at : at + 8] for at in range(len(data) - 7)}
    assert not windows & hashes, "an unkeyed hash"
    texts = {lower[at : at + 16] for at in range(len(lower) - 15)}
    assert not texts & {digest.hex().encode() for digest in hashes}, "an unkeyed hash in hexadecimal"


def test_a_server_and_the_way_to_it_hold_no_secret(started, tmp_path, hashes, figure):
    valkey = started(Valkey(tmp_path / "valkey"))
    monitor = started(Monitor(valkey))
    replicas = started(Replicas(tmp_path / "replicas", valkey, flags=("--rate", "50")))
    look_up(replicas.addresses, CHAT_IDS + SPECIAL, deadline=5)
    # A picture that changes is announced to the other replicas.
    look_up(replicas.addresses[:1], CHAT_IDS[:5])
    time.sleep(1)
    valkey("SAVE")
    found = marks(replicas.sandbox, replicas[0].address)
    monitor.close()
    snapshot = (valkey.directory / "dump.rdb").read_bytes()
    commands = "\n".join(monitor.commands).encode("latin-1", "backslashreplace")
    keys = valkey("KEYS", "*")
    dumped = b"".join(key + (valkey("DUMP", key) or b"") for key in keys)
    figure(f"{len(keys)} keys, a snapshot of {len(snapshot)} bytes, {len(monitor.commands)} commands")
    assert len(keys) > len(CHAT_IDS), keys
    assert len(monitor.commands) > len(CHAT_IDS)
    for data in (snapshot, commands, dumped):
        assert_hidden(data, found, hashes)
    lasting = [key for key in keys if valkey("PTTL", key) == -1]
    assert lasting == [], "every key has a time to live"


def test_a_file_holds_no_secret(started, tmp_path, hashes, figure):
    sandbox = started(Sandbox(tmp_path / "sandbox"))
    folder = tmp_path / "store"
    folder.mkdir()
    flags = ["--store", f"file:{folder / 'answers'}", "--drain-wait", "0"]
    service = started(Server(tmp_path / "service", *flags, environment=sandbox.settings))
    look_up([service.address], CHAT_IDS[:20] + SPECIAL, deadline=8)
    found = marks(sandbox, service.address)
    time.sleep(2)
    while_running = read_all(folder)
    service.drained()
    figure(f"{len(while_running)} bytes")
    assert len(while_running) > 4096
    assert_hidden(while_running, found, hashes)
    assert_hidden(read_all(folder), found, hashes)


def read_all(folder: Path):
    return b"\n".join(path.read_bytes() for path in sorted(folder.iterdir()))
