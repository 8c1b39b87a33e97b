"""The tools that the tests share: the server under test, its peers, and the load that must see no failure."""

import os
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
CLIENTS = HERE.parents[1] / "clients"
SERVICE = "hypersender.contact.v1.ContactService"
METHOD = f"{SERVICE}/GetProfilePicture"

# Seconds. Every step takes far less, so that only a peer that hangs reaches it.
PATIENCE = 30


def program(variable):
    """The absolute path of a program, from the environment that make sets."""
    path = os.environ.get(variable, "")
    if not (os.path.isabs(path) and os.path.exists(path)):
        pytest.fail(f"{variable} must be an absolute path that exists, is {path!r}: see `make test-peers`")
    return path


def tool(name):
    """The path of a program that tests/peers/go.mod pins."""
    return os.path.join(program("PEERS_TOOLS"), name)


def wait_until(what, condition):
    """Wait until `condition` returns a true value, and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s in vain until {what}")
