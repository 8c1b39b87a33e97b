"""The generated client and the example, against the server with its stand-in for the REST API."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from hypersender.contact.v1 import contact_service_pb2 as contact
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

EXAMPLE = Path(__file__).parents[1] / "examples" / "get_profile_picture.py"

# Seconds; far above what a start, a call or a stop takes, so that only a server that hangs reaches it.
PATIENCE = 30


@pytest.fixture
def address(tmp_path):
    """Start the server, hand out its address, stop it after the test."""
    binary = os.environ.get("HYPERSENDER_GRPC_BIN", "")
    if not (os.path.isabs(binary) and os.path.isfile(binary)):
        pytest.fail(
            f"HYPERSENDER_GRPC_BIN must be the absolute path of the built server, is {binary!r}: see `make test-python`"
        )
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [binary, "serve", "--sandbox", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-format", "json"],
            stderr=stderr,
            # The settings of whoever runs the test must not reach the server.
            env={},
        )
    try:
        yield wait_until_listening(server, log)
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.wait()
        # pytest shows it when the test fails.
        print(log.read_text())


def wait_until_listening(server, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("message") == "listening":
                return entry["address"]
        assert server.poll() is None, "the server ended before it listened"
        time.sleep(0.02)
    raise AssertionError("the server does not say that it listens")


@pytest.fixture
def client(address):
    with grpc.insecure_channel(address) as channel:
        yield ContactServiceStub(channel)


def test_answers(client):
    rows = [
        ("15551230001", contact.PROFILE_PICTURE_STATE_PRESENT, contact.CACHE_STATUS_MISS),
        ("15551230001", contact.PROFILE_PICTURE_STATE_PRESENT, contact.CACHE_STATUS_HIT),
        ("15551230004", contact.PROFILE_PICTURE_STATE_NOT_AVAILABLE, contact.CACHE_STATUS_MISS),
    ]
    for chat_id, state, cache_status in rows:
        request = contact.GetProfilePictureRequest(chat_id=chat_id)
        response = client.GetProfilePicture(request, timeout=PATIENCE)
        picture = response.profile_picture
        assert (picture.chat_id, picture.state) == (chat_id, state)
        assert response.cache_info.status == cache_status, chat_id
        present = state == contact.PROFILE_PICTURE_STATE_PRESENT
        assert bool(picture.url) == bool(picture.fingerprint) == present, chat_id


@dataclass
class Failure:
    code: grpc.StatusCode
    reason: str
    field: str = ""
    wait: bool = False


def test_errors(client):
    rows = [
        ("15551230006", Failure(grpc.StatusCode.NOT_FOUND, "NOT_ON_WHATSAPP")),
        ("abc", Failure(grpc.StatusCode.INVALID_ARGUMENT, "CHAT_ID_INVALID", field="chat_id")),
        # Last, because it pauses the whole instance.
        ("15551230008", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED", wait=True)),
    ]
    for chat_id, want in rows:
        with pytest.raises(grpc.RpcError) as raised:
            client.GetProfilePicture(contact.GetProfilePictureRequest(chat_id=chat_id), timeout=PATIENCE)
        got = Failure(raised.value.code(), "")
        for detail in rpc_status.from_call(raised.value).details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                assert info.domain == "hypersender-grpc"
                got.reason = info.reason
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                request = error_details_pb2.BadRequest.FromString(detail.value)
                got.field = ",".join(violation.field for violation in request.field_violations)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo.FromString(detail.value)
                got.wait = retry.retry_delay.ToMilliseconds() > 0
        assert got == want
        pushback = dict(raised.value.trailing_metadata())["grpc-retry-pushback-ms"]
        assert (pushback != "-1") == want.wait, chat_id


def test_cache_control(client):
    control = contact.CacheControl(only_if_cached=True)
    only_if_cached = contact.GetProfilePictureRequest(chat_id="15551230001", cache_control=control)
    with pytest.raises(grpc.RpcError) as raised:
        client.GetProfilePicture(only_if_cached, timeout=PATIENCE)
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    client.GetProfilePicture(contact.GetProfilePictureRequest(chat_id="15551230001"), timeout=PATIENCE)
    response = client.GetProfilePicture(only_if_cached, timeout=PATIENCE)
    assert response.cache_info.status == contact.CACHE_STATUS_HIT


def test_example(address):
    chat_ids = ["15551230001", "15551230004", "abc", "15551230008"]
    run = subprocess.run(
        [sys.executable, EXAMPLE, "--address", address, "--timeout", str(PATIENCE), *chat_ids],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert run.returncode == 1, "calls that fail must end in exit code 1"
    assert "15551230001: picture http" in run.stdout
    assert "15551230004: no picture\n" in run.stdout
    assert "abc: INVALID_ARGUMENT CHAT_ID_INVALID: " in run.stderr
    assert "15551230008: RESOURCE_EXHAUSTED UPSTREAM_RATE_LIMITED, try again in " in run.stderr
