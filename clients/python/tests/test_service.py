"""The generated client and the example, against the server with its stand-in for the REST API."""

from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from hypersender.contact.v1 import contact_service_pb2 as contact

# Seconds; far above what a start, a call or a stop takes, so that only a server that hangs reaches it.
PATIENCE = 30


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


def test_example(address, run_example):
    chat_ids = ["15551230001", "15551230004", "abc", "15551230008"]
    run = run_example("get_profile_picture.py", "--address", address, "--timeout", str(PATIENCE), *chat_ids)
    assert run.returncode == 1, "calls that fail must end in exit code 1"
    assert "15551230001: picture http" in run.stdout
    assert "15551230004: no picture\n" in run.stdout
    assert "abc: INVALID_ARGUMENT CHAT_ID_INVALID: " in run.stderr
    assert "15551230008: RESOURCE_EXHAUSTED UPSTREAM_RATE_LIMITED, try again in " in run.stderr
