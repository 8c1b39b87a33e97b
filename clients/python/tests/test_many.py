"""Batches, streams and the example of a chat list, against the server with its stand-in for the REST API."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from hypersender.contact.v1 import contact_service_pb2 as contact
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub
from hypersender_grpc_client import pictures

EXAMPLE = Path(__file__).parents[1] / "examples" / "chat_list.py"

PATIENCE = 30


def numbers(count):
    """Made-up numbers. The sandbox has a picture of each."""
    return [str(15552000000 + index) for index in range(count)]


def test_batch(client):
    chat_ids = ["15551230001", "abc", "15551230004", "15551230006", "15551230001", "15552000001@c.us"]
    request = contact.BatchGetProfilePicturesRequest(chat_ids=chat_ids)
    response = client.BatchGetProfilePictures(request, timeout=PATIENCE)
    assert response.failed_count == 2
    assert [(result.index, result.requested_chat_id) for result in response.results] == list(enumerate(chat_ids))
    reasons = [pictures.explain(result.error).reason for result in response.results]
    assert reasons == ["", "CHAT_ID_INVALID", "", "NOT_ON_WHATSAPP", "", ""]
    present, absent = contact.PROFILE_PICTURE_STATE_PRESENT, contact.PROFILE_PICTURE_STATE_NOT_AVAILABLE
    states = [result.profile_picture.state for result in response.results]
    assert states == [present, 0, absent, 0, present, present]

    request.known_fingerprints["15551230001"] = response.results[0].profile_picture.fingerprint
    request.known_fingerprints["15552000001@c.us"] = "another"
    response = client.BatchGetProfilePictures(request, timeout=PATIENCE)
    assert [result.index for result in response.results if result.HasField("unchanged")] == [0, 4]


@pytest.mark.parametrize("size", [0, 101])
def test_batches_have_a_limit(client, size):
    with pytest.raises(grpc.RpcError) as raised:
        client.BatchGetProfilePictures(contact.BatchGetProfilePicturesRequest(chat_ids=numbers(size)), timeout=PATIENCE)
    failure = pictures.explain(raised.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_SIZE_INVALID")
    assert not failure.again


def test_stream(start_server):
    chat_ids = [*numbers(200), "abc", "15551230004", "15552000007"]
    request = contact.StreamProfilePicturesRequest(chat_ids=chat_ids)

    def results(stub):
        messages = pictures.stream(stub, request, timeout=PATIENCE)
        results = [message.result for message in messages if message.HasField("result")]
        assert sorted(result.index for result in results) == list(range(len(chat_ids)))
        assert {result.requested_chat_id for result in results if result.HasField("error")} == {"abc"}
        return results

    with grpc.insecure_channel(start_server("--rate", "0").address) as channel:
        stub = ContactServiceStub(channel)
        for result in results(stub):
            if fingerprint := result.profile_picture.fingerprint:
                request.known_fingerprints[result.requested_chat_id] = fingerprint
        assert len(request.known_fingerprints) == 200
        unchanged = {result.requested_chat_id for result in results(stub) if result.HasField("unchanged")}
    assert unchanged == set(numbers(200))


def test_chat_list(address, client, run_example):
    client.GetProfilePicture(contact.GetProfilePictureRequest(chat_id="15551230001"), timeout=PATIENCE)
    chat_ids = ["15551230004", "15551230006", "15551230001", "abc"]
    run = run_example("chat_list.py", "--server", address, *chat_ids)
    assert run.returncode == 1, "contacts with an error must end in exit code 1"
    # First the rows that need no request to Hypersender.
    cached, malformed, absent, not_on_whatsapp = run.stdout.splitlines()
    assert cached.startswith("15551230001: picture ") and cached.endswith(" (HIT)")
    assert malformed.startswith("abc: INVALID_ARGUMENT CHAT_ID_INVALID: ")
    assert absent == "15551230004: no picture (MISS)"
    assert not_on_whatsapp.startswith("15551230006: NOT_FOUND NOT_ON_WHATSAPP: ")
    assert "http" not in run.stdout


def start_chat_list(server, **streams):
    command = [sys.executable, EXAMPLE, "--server", server, "15551230001"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **streams)


def test_a_chat_list_fails_when_its_rows_cannot_be_written(address):
    with open("/dev/full", "wb") as full:
        run = start_chat_list(address, stdout=full)
        assert run.communicate(timeout=PATIENCE)[1] == "standard output: No space left on device\n"
    assert run.returncode == 2


def test_a_chat_list_ends_when_the_reader_of_its_rows_has_gone(address):
    run = start_chat_list(address, stdout=subprocess.PIPE)
    run.stdout.close()
    assert run.stderr.read() == "standard output: Broken pipe\n"
    assert run.wait(PATIENCE) == 2
    run.stderr.close()


def test_a_chat_list_can_be_interrupted():
    # The server accepts the connection and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        run = start_chat_list("127.0.0.1:{1}".format(*listener.getsockname()))
        connection, _ = listener.accept()
        with connection:
            run.send_signal(signal.SIGINT)
            assert run.communicate(timeout=PATIENCE)[1] == "interrupted\n"
    assert run.returncode == 2
