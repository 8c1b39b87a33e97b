"""What a client is opened with: the target, the token, and what the server sees of it."""

import contextlib
import socket
import threading
import time

import grpc
import pytest
from support import PATIENCE, found, vectors

from hypersender.contact import AsyncContactClient, ContactClient, ContactError, __version__, _channel

ELSEWHERE = "contacts.internal:50051"


@pytest.mark.parametrize("row", vectors("targets"), ids=lambda row: repr(row["target"]))
def test_a_target_is_read(row):
    if "refused" in row:
        with pytest.raises(ValueError, match=row["refused"]) as raised:
            ContactClient(row["target"])
        assert "secret" not in str(raised.value)
        return
    assert _channel.read_target(row["target"]) == (row["dials"], row["loopback"])
    assert ContactClient(row["target"])._opening.plain == row["loopback"]


@pytest.mark.parametrize("client", [ContactClient, AsyncContactClient])
@pytest.mark.parametrize(
    ("target", "options", "named"),
    [
        (ELSEWHERE, {"token": "secret", "tls": False}, "allow_token_in_plain_text"),
        (ELSEWHERE, {"token": lambda: "secret", "tls": False}, "allow_token_in_plain_text"),
        (ELSEWHERE, {"token": ""}, "token is empty"),
        (ELSEWHERE, {"token": " \n"}, "token is empty"),
        (ELSEWHERE, {"token": "secret secret"}, "visible ASCII"),
        (ELSEWHERE, {"token": "sécret"}, "visible ASCII"),
        (ELSEWHERE, {"user_agent": "one\ntwo"}, "user_agent"),
        (ELSEWHERE, {"tls": "ca.pem"}, "tls is none of"),
        (ELSEWHERE, {"timeout": -1}, "timeout"),
        (ELSEWHERE, {"timeout": float("nan")}, "timeout"),
        (ELSEWHERE, {"instance": "\ud800"}, "instance"),
    ],
)
def test_an_option_that_cannot_work_is_refused(client, target, options, named):
    with pytest.raises(ValueError, match=named) as raised:
        client(target, **options)
    assert "secret" not in str(raised.value)
    assert "cret" not in str(raised.value)


def test_a_token_of_a_call_is_refused_for_another_machine(connect):
    client = connect(ELSEWHERE, tls=False)
    for token in ("secret", lambda: "secret"):
        with pytest.raises(ValueError, match="allow_token_in_plain_text"):
            client.get_profile_picture("15551230001", token=token)
    with pytest.raises(ValueError, match="visible ASCII") as raised:
        client.get_profile_picture("15551230001", token="se\u00e9cret")
    assert "cret" not in str(raised.value)


def test_a_token_goes_to_another_machine_when_allowed(connect):
    # Nothing listens there; the call is made all the same.
    client = connect("192.0.2.1:1", tls=False, token="secret", allow_token_in_plain_text=True)
    with pytest.raises(ContactError) as raised:
        client.get_profile_picture("15551230001", timeout=0.1)
    assert "secret" not in repr(raised.value)


def test_the_server_sees_the_options(serve, connect):
    server = serve(found)
    client = connect(server.address, token="first\n", instance="one")
    client.get_profile_picture("15551230001", max_age=1.5, stale_if_error=0)
    client.get_profile_picture("15551230001", token="second", instance="two", min_fresh=60)
    client.get_profile_picture("15551230001", token=None, instance=None, only_if_cached=True)
    assert [seen["authorization"] for seen in server.metadata] == ["Bearer first", "Bearer second", "Bearer first"]
    assert [request.instance for request in server.asked] == ["one", "two", "one"]
    first, second, third = (request.cache_control for request in server.asked)
    assert (first.max_age.ToMilliseconds(), first.HasField("stale_if_error")) == (1500, True)
    assert (first.HasField("min_fresh"), second.min_fresh.seconds, third.only_if_cached) == (False, 60, True)
    assert all(
        seen["user-agent"].startswith(f"hypersender-contact-python/{__version__} grpc-") for seen in server.metadata
    )


def test_a_token_function_is_called_before_each_call(serve, connect):
    server, tokens = serve(found), iter(["one", "two"])
    client = connect(server.address, token=lambda: next(tokens))
    for _ in range(2):
        client.get_profile_picture("15551230001")
    assert [seen["authorization"] for seen in server.metadata] == ["Bearer one", "Bearer two"]


def test_no_token_is_no_metadata(serve, connect):
    server = serve(found)
    connect(server.address).get_profile_picture("15551230001")
    assert "authorization" not in server.metadata[0]


def test_the_user_agent_names_the_program(serve, connect):
    server = serve(found)
    connect(server.address, user_agent="shop/2.1").get_profile_picture("15551230001")
    assert server.metadata[0]["user-agent"].startswith(f"shop/2.1 hypersender-contact-python/{__version__} grpc-")


def test_several_addresses_are_used_in_turn(serve, connect):
    servers = [serve(found), serve(found)]
    client = connect("ipv4:" + ",".join(server.address for server in servers))
    for _ in range(50):
        client.get_profile_picture("15551230001")
    assert all(server.asked for server in servers)


def test_a_proxy_of_the_environment_never_sees_calls_to_this_machine(serve, connect, monkeypatch):
    server, asked = serve(found), threading.Event()

    def accept():
        try:
            listener.accept()[0].close()
            asked.set()
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:{1}".format(*listener.getsockname()))
        connect(server.address, token="secret").get_profile_picture("15551230001")
        listener.shutdown(socket.SHUT_RDWR)
    assert not asked.is_set()


def test_options_of_the_channel_come_last(serve, connect):
    options = [("grpc.max_receive_message_length", 5)]
    with pytest.raises(ContactError) as raised:
        connect(serve(found).address, channel_options=options).get_profile_picture("15551230001")
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_opening_makes_no_call():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:{1}".format(*listener.getsockname())
        with ContactClient(address):
            AsyncContactClient(address)
            listener.settimeout(0.2)
            with pytest.raises(TimeoutError):
                listener.accept()


def test_a_timeout_of_the_client_is_for_calls_for_one_contact(serve, connect):
    left = []

    def answer(request, context):
        left.append(context.time_remaining())
        context.abort(grpc.StatusCode.NOT_FOUND, "")

    client = connect(serve(answer).address, timeout=20)
    for options in ({}, {"timeout": 12}):
        with pytest.raises(ContactError):
            client.get_profile_picture("1", **options)
        with pytest.raises(ContactError):
            client.batch_get_profile_pictures(["1"], **options)
    assert [round(time) for time in left] == pytest.approx([20, 30, 12, 12], abs=2)


def test_connections_are_tried_often_while_the_server_is_down(connect):
    tried = threading.Semaphore(0)

    def refuse():
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()
                tried.release()

    # With the usual pauses of gRPC, the eighth connection comes after 40 s.
    end = time.monotonic() + PATIENCE
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=refuse, daemon=True).start()
        client = connect("127.0.0.1:{1}".format(*listener.getsockname()))
        for _ in range(8):
            while not tried.acquire(timeout=0.05):
                assert time.monotonic() < end
                with pytest.raises(ContactError):
                    client.get_profile_picture("1", timeout=PATIENCE)
        listener.shutdown(socket.SHUT_RDWR)
