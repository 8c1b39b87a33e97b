"""Pages of other sites: whatever they send to the port or to the sandbox, no action is taken."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest

from support import wait_until

PICTURE = "15551230001"
REBOUND = "attacker.example"

# Each attack is a page of its own. It sends what a browser lets it send, and then says that it is done.
ATTACKS = {
    "a form": """<form method=post enctype=text/plain action="{url}"><input name='{head}' value='{tail}'></form>
        <script>document.forms[0].submit()</script>""",
    "a form in a frame": """<iframe name=frame></iframe><form method=post enctype=text/plain target=frame action="{url}">
        <input name='{head}' value='{tail}'></form>
        <script>frame.onload = () => done(); document.forms[0].submit(); setTimeout(done, 500)</script>""",
    "a fetch of text": """<script>fetch('{url}', {{ method: 'POST', mode: 'no-cors', body: '{body}' }})
        .then(done, done)</script>""",
    "a fetch of JSON": """<script>fetch('{url}', {{ method: 'POST', body: '{body}',
        headers: {{ 'Content-Type': 'application/json' }} }}).then(done, done)</script>""",
    "a fetch with credentials": """<script>fetch('{url}', {{ method: 'POST', body: '{body}', credentials: 'include',
        headers: {{ 'Content-Type': 'application/json', 'X-Requested-With': 'XMLHttpRequest' }} }})
        .then(done, done)</script>""",
    "another method": """<script>fetch('{url}', {{ method: 'PUT', body: '{body}' }}).then(done, done)</script>""",
    "a beacon": """<script>navigator.sendBeacon('{url}', new Blob(['{body}'])); setTimeout(done, 500)</script>""",
    "an image": """<img src="{url}" onload="done()" onerror="done()">""",
    "a script": """<script src="{url}" onload="done()" onerror="done()"></script>""",
    "a link": """<script>location = '{url}'</script>""",
}


@contextmanager
def site(address, html):
    """Another site: a server on this machine, on another port or address, with one page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!DOCTYPE html><script>const done = () => {{ document.title = 'done' }}</script>{html}".encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{address}:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser(open_browser):
    return open_browser(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1")


@pytest.fixture
def untouched(port, browser):
    """The contact must be as before: with the same picture, and with no more look-ups than the test's own."""
    browser.show(port.root)
    wait_until("the image is there", lambda: port.image(PICTURE)[0]["Avatar-Status"] == "present")
    browser.driver.get("about:blank")
    before, asked = port.state()
    before = before[PICTURE]["version"]
    yield
    after, now = port.state()
    assert after[PICTURE]["version"] == before
    assert now["look_ups_by_number"][PICTURE] == asked["look_ups_by_number"][PICTURE]
    port._order("DELETE", "script")
    browser.driver.get(port.root)
    browser.choose(PICTURE)
    browser.press("ask")
    after, _ = port.state()
    assert after[PICTURE]["version"] == before, "nor has the sandbox another picture"


def targets(port):
    """The actions of the page and of the sandbox, each with a body that would be right."""
    number = json.dumps({"number": PICTURE})
    return [
        (f"{port.root}_page/change", number),
        (f"{port.root}_page/ask", json.dumps({"number": PICTURE, "again": True})),
        (f"{port.sandbox}/_sandbox/changes", json.dumps({"chat_ids": [PICTURE]})),
        (f"{port.sandbox}/_sandbox/script", json.dumps({"chat_id": PICTURE, "status": 500})),
    ]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.usefixtures("untouched")
def test_another_site_takes_no_action(port, browser, address):
    for name, attack in ATTACKS.items():
        for url, body in targets(port):
            # A form sends a name, an equals sign and a value, so the sign is put where JSON may have it.
            head, tail = body[:-1] + ', "x": "', '"}'
            with site(address, attack.format(url=url, body=body, head=head, tail=tail)) as root:
                browser.driver.get(root)
                navigated = lambda: not browser.driver.current_url.startswith(root)
                wait_until(f"{name} at {url} is over", lambda: navigated() or browser.driver.title == "done")


@pytest.mark.usefixtures("untouched")
def test_a_name_that_was_rebound_to_this_machine_reads_and_does_nothing(port, browser):
    for address in (port.avatars, port.sandbox.removeprefix("http://")):
        root = f"http://{REBOUND}:{address.rsplit(':', 1)[1]}/"
        browser.driver.get(root)
        # This document has the same origin as the port, as far as the browser knows.
        assert browser.run("return location.origin") == root[:-1]
        for url, body in targets(port):
            path = url.split("/", 3)[3]
            status = browser.run_async(
                "return (await fetch(`/${arguments[0]}`, { method: 'POST', body: arguments[1],"
                " headers: { 'Content-Type': 'application/json' } })).status",
                path,
                body,
            )
            assert status in (403, 404, 405, 421), path
    browser.driver.get(f"http://{REBOUND}:{port.avatars.rsplit(':', 1)[1]}/")
    assert "localhost" in browser.text("body")
    for path in ("_page/state", "_page/icon.svg"):
        assert browser.run_async("return (await fetch(`/${arguments[0]}`)).status", path) == 421


def test_the_page_cannot_be_framed(port, browser):
    html = f"<iframe src='{port.root}' onload='done()'></iframe>"
    with site("127.0.0.1", html) as root:
        browser.driver.get(root)
        wait_until("the frame is refused", lambda: any("frame" in line.lower() for line in browser.errors()))


def test_every_name_of_this_machine_shows_the_page(port, browser):
    number = port.avatars.rsplit(":", 1)[1]
    for host in ("localhost", "127.0.0.1"):
        browser.show(f"http://{host}:{number}/")
        browser.choose(PICTURE)
        browser.press("ask")
        assert browser.badge(PICTURE) == "REFRESHED"
        assert browser.violations() == []
