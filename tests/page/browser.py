"""Chromium without a window. If it is not installed, the tests are skipped.

If PEERS_REQUIRE names chromium, the tests fail instead.
"""

import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from support import wait_until

# The numbers of the sandbox, and the one that gets no answer before its deadline.
NUMBERS, HANGS = 15, "15551230012"

# Notes what the policy of the page forbids, before any script of the page runs.
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) =>
  window.violations.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`));
"""


def programs():
    """The paths of Chromium and its driver. Without them the test is skipped or fails."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if all(found):
        return found
    text = "Chromium is not installed, so the page is not tested: `apt-get install chromium chromium-driver`"
    if "chromium" in os.environ.get("PEERS_REQUIRE", "").split(","):
        pytest.fail(text)
    pytest.skip(text)


class Browser:
    """A browser with one tab and a profile of its own."""

    def __init__(self, profile, *flags):
        chromium, driver = programs()
        options = Options()
        options.binary_location = chromium
        for flag in (
            "--headless=new",
            # The tests may run as root in a container, where Chromium's own sandbox cannot start.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--lang=en-US",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            *flags,
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.command("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.resize(1440, 900)

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def resize(self, width, height):
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def prefer(self, **features):
        """Set what the reader prefers, such as `color_scheme="dark"`."""
        features = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def show(self, root):
        """Open the page and wait until each number has an image, and an outcome unless its look-up hangs."""
        self.driver.get(root)
        self.run("window.marker = 'the same document'")
        wait_until("each number has an outcome", self._is_complete)

    def _is_complete(self):
        rows = self.run(
            "return [...document.querySelectorAll('.contact')].map((row) =>"
            " [row.dataset.number, row.querySelector('.badge').textContent, row.querySelector('img').naturalWidth])"
        )
        waiting = ("NOT ASKED", "ASKING")
        waited = all(width > 0 and (number == HANGS or badge not in waiting) for number, badge, width in rows)
        return len(rows) == NUMBERS and waited

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def run_async(self, script, *arguments):
        """Run a script whose last line returns a promise, and wait for it."""
        body = f"const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, (e) => done(String(e)))"
        return self.driver.execute_async_script(body, *arguments)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def badge(self, number):
        return self.text(f'.contact[data-number="{number}"] .badge')

    def source(self, number):
        return self.run("return document.querySelector(arguments[0]).getAttribute('src')", self.image_of(number))

    def pixels(self, number):
        """The first colour of each of 64 places of the image in the list, or None while it loads."""
        return self.run(
            """
            const img = document.querySelector(arguments[0]);
            if (!img.complete || img.naturalWidth === 0) return null;
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [8, 8];
            const context = canvas.getContext('2d');
            context.drawImage(img, 0, 0, 8, 8);
            return [...context.getImageData(0, 0, 8, 8).data].join();
            """,
            self.image_of(number),
        )

    @staticmethod
    def image_of(number):
        return f'.contact[data-number="{number}"] img'

    def choose(self, number):
        self.find(f'.contact[data-number="{number}"]').click()

    def press(self, button):
        """Press a button of the chosen number and wait until its action is over."""
        pressed = self.find(f"#{button}")
        pressed.click()
        wait_until(f"{button} is over", lambda: pressed.get_attribute("aria-disabled") != "true")

    def is_same_document(self):
        return self.run("return window.marker") == "the same document"

    def violations(self):
        return self.run("return window.violations")

    def errors(self):
        """What the console has shown since the last call, except pure information."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]

    def close(self):
        self.driver.quit()
