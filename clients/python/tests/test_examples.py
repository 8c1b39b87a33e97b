"""The examples for one contact and for a chat list, against the server with its stand-in for the REST API."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

from support import PATIENCE

from hypersender.contact import ContactClient

EXAMPLE = Path(__file__).parents[1] / "examples" / "chat_list.py"


def test_one_contact(address, run_example):
    chat_ids = ["15551230001", "15551230004", "abc", "15551230008"]
    run = run_example("get_profile_picture.py", "--server", address, "--timeout", str(PATIENCE), *chat_ids)
    assert run.returncode == 1, "calls that fail must end in exit code 1"
    assert "15551230001: picture http" in run.stdout
    assert ", works until 2" in run.stdout
    assert "15551230004: no picture\n" in run.stdout
    assert "abc: INVALID_ARGUMENT CHAT_ID_INVALID (chat_id): " in run.stderr
    assert "15551230008: RESOURCE_EXHAUSTED UPSTREAM_RATE_LIMITED, try again in " in run.stderr


def test_chat_list(address, run_example):
    with ContactClient(address) as client:
        client.get_profile_picture("15551230001")
    chat_ids = ["15551230004", "15551230006", "15551230001", "abc"]
    run = run_example("chat_list.py", "--server", address, *chat_ids)
    assert run.returncode == 1, "contacts with an error must end in exit code 1"
    # First the rows that need no request to Hypersender.
    cached, malformed, absent, not_on_whatsapp = run.stdout.splitlines()
    assert cached.startswith("15551230001: picture ")
    assert malformed.startswith("abc: INVALID_ARGUMENT CHAT_ID_INVALID (chat_id): ")
    assert absent == "15551230004: no picture"
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
