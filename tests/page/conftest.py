"""Fixtures: a server with its sandbox, and a browser that shows the page. Both end with their test."""

import os
from pathlib import Path

import pytest

from browser import Browser, programs
from sandboxed import Sandboxed


@pytest.fixture
def port(tmp_path):
    """The port of the avatars. Hypersender may be asked about a contact at any time."""
    programs()
    port = Sandboxed(tmp_path / "server", "--refresh-floor", "0s")
    yield port
    port.close()


@pytest.fixture
def open_browser(tmp_path):
    """Open browsers with more flags, and close them after the test."""
    browsers = []

    def open_one(*flags):
        browsers.append(Browser(tmp_path / f"profile-{len(browsers)}", *flags))
        return browsers[-1]

    yield open_one
    for browser in browsers:
        browser.close()


@pytest.fixture
def page(port, open_browser):
    """The page in a browser, once all numbers have been asked for. It must cause no error."""
    browser = open_browser()
    browser.show(port.root)
    yield browser
    assert browser.violations() == []
    assert browser.errors() == []


@pytest.fixture
def pictures():
    """The folder for screenshots."""
    folder = Path(os.environ.get("PAGE_PICTURES") or Path(__file__).parents[2] / "target" / "page")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
