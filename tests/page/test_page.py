"""The page itself: states, keyboard, screen reader, colours, narrow screens, and its policy."""

import json
import re

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from support import wait_until

PICTURE, ABSENT, REJECTED, SLOW = "15551230001", "15551230004", "15551230007", "15551230011"

# The ratio of contrast of each visible text and its background, as WCAG 2 defines it, where it is below 4.5.
LOW_CONTRAST = """
const channel = (value) => value <= 10.31475 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = parts(getComputedStyle(node).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let text = walker.nextNode(); text; text = walker.nextNode()) {
  const node = text.parentElement;
  const isText = text.data.trim() && !['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(node.tagName);
  if (!isText || !node.checkVisibility()) continue;
  const pair = [light(parts(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < 4.5) low.push(`${ratio.toFixed(2)}: ${text.data.trim().slice(0, 40)}`);
}
return low;
"""


def test_states_are_live(page, port):
    for number, badge in [(PICTURE, "HIT"), (ABSENT, "HIT"), ("15551230002", "STALE"), ("15551230006", "NOT_ON_WHATSAPP")]:
        wait_until(f"{number} has its state", lambda: page.badge(number) == badge)
    assert page.badge(REJECTED) == "UPSTREAM_CREDENTIALS_REJECTED"
    assert page.text("#live-text") == "Live"
    page.choose(PICTURE)
    assert "MISS" in page.text("#log"), "the first look-up of the page is in the log"
    page.press("ask")
    assert page.badge(PICTURE) == "REFRESHED"
    assert page.text("#announcer").startswith("REFRESHED")
    wait_until("the cache answers again", lambda: page.badge(PICTURE) == "HIT")
    # Another client of the service changes what the page shows.
    before = page.text("#count-images")
    port.image(PICTURE, size=640)
    port.image(SLOW, size=640)
    port.script(chat_id=PICTURE, status=500)
    assert page.text("#count-images") == before, "the images are in memory"
    age = lambda: int(re.match(r"(\d+) s", page.text("#fact-age"))[1])
    first = age()
    wait_until("the answer grows older", lambda: age() > first)


def test_polling_asks_nobody(page, port):
    _, before = port.state()
    look_ups = lambda: page.run("return performance.getEntriesByName(`${location.origin}/_page/state`).length")
    first = look_ups()
    wait_until("the page has polled twice", lambda: look_ups() >= first + 2)
    _, after = port.state()
    # Images of failed look-ups may be asked for at any time; the others never are.
    for number in (PICTURE, ABSENT, SLOW):
        assert after["look_ups_by_number"][number] == before["look_ups_by_number"][number]


def test_the_page_says_that_the_service_is_gone(port, open_browser):
    browser = open_browser()
    browser.show(port.root)
    port.process.kill()
    wait_until("the page says so", lambda: browser.text("#live-text") == "The service does not answer")
    browser.find("#ask").click()
    wait_until("the action says so", lambda: "failed" in browser.text("#announcer"))


def test_the_keyboard_reaches_every_control(page):
    controls = page.run(
        "return [...document.querySelectorAll('a[href], button, [tabindex=\"0\"]')]"
        ".filter((control) => control.checkVisibility()).map((control) => control.id || control.dataset.number"
        " || control.className || control.getAttribute('aria-labelledby'))"
    )
    reached = []
    for _ in range(len(controls) + 5):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        name, outline = page.run(
            "const at = document.activeElement; const style = getComputedStyle(at);"
            "return [at.id || at.dataset.number || at.className || at.getAttribute('aria-labelledby'),"
            " `${style.outlineStyle} ${style.outlineWidth}`]"
        )
        if name is None or name in reached:
            break
        reached.append(name)
        assert outline == "solid 3px", f"{name} shows that it has the focus"
    assert set(controls) <= set(reached)

    # The number is chosen, and its actions are taken, by keys alone.
    page.run("document.querySelector(arguments[0]).focus()", f'.contact[data-number="{ABSENT}"]')
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.run("return document.querySelector('[aria-current=true]').dataset.number") == ABSENT
    assert page.text("#chat-title") == "+1 555 123 0004"
    page.run("document.getElementById('ask').focus()")
    page.driver.switch_to.active_element.send_keys(Keys.SPACE)
    wait_until("it was asked", lambda: page.badge(ABSENT) == "REFRESHED")
    assert page.run("return document.activeElement.id") == "ask", "the focus stays"


def test_a_screen_reader_finds_names_and_landmarks(page):
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    read = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    for role in ("button", "link", "image", "region", "navigation", "complementary", "heading", "list"):
        named = [name for of, name in read if of == role]
        assert named, f"there is a {role}"
        assert role == "list" or all(named), f"each {role} has a name: {named}"
    for role in ("main", "banner", "navigation", "complementary", "status"):
        assert [of for of, _ in read].count(role) >= 1, role
    assert ("image", "Avatar of +1 555 123 0001") in read
    assert any(role == "button" and name.startswith("+1 555 123 0007 401") for role, name in read)
    levels = page.run("return [...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(next - level <= 1 for level, next in zip(levels, levels[1:])), levels
    assert page.run("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(page, pictures, scheme):
    page.prefer(color_scheme=scheme)
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 384) == (scheme == "light")
    page.choose(PICTURE)
    page.press("change")
    page.press("ask")
    wait_until("the picture is there", lambda: page.text("#fact-image") == "Shown")
    page.driver.save_screenshot(str(pictures / f"{scheme}.png"))
    assert page.run(LOW_CONTRAST) == []
    page.choose(REJECTED)
    assert page.run(LOW_CONTRAST) == []
    page.driver.save_screenshot(str(pictures / f"{scheme}-error.png"))


def test_a_narrow_screen_shows_the_list_and_then_the_conversation(page, pictures):
    page.resize(390, 844)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.run(overflow) == 0
    assert not page.find("#chat").is_displayed()
    page.driver.save_screenshot(str(pictures / "narrow-list.png"))
    page.choose(REJECTED)
    assert page.find("#chat").is_displayed()
    assert not page.find(".list").is_displayed()
    assert page.run("return document.activeElement.id") == "chat"
    assert page.run(overflow) == 0
    page.driver.save_screenshot(str(pictures / "narrow-conversation.png"))
    page.find("#back").click()
    assert page.run("return document.activeElement.dataset.number") == REJECTED
    page.resize(320, 640)
    assert page.run(overflow) == 0


def test_nothing_moves_for_those_who_prefer_that(page):
    animation = "return getComputedStyle(document.querySelector('.dot')).animationName"
    assert page.run(animation) == "pulse"
    page.prefer(reduced_motion="reduce")
    assert page.run(animation) == "none"


def test_the_policy_lets_nothing_else_run(port, open_browser):
    browser = open_browser()
    browser.show(port.root)
    outcome = browser.run_async(
        """
        const outcomes = {};
        try {
          const script = document.createElement('script');
          script.textContent = 'window.injected = true';
          document.body.append(script);
        } catch (error) { outcomes.script = error.name; }
        try { document.body.innerHTML += '<img src=x>'; } catch (error) { outcomes.html = error.name; }
        const style = document.createElement('style');
        style.textContent = 'body { display: none }';
        document.head.append(style);
        outcomes.fetched = await fetch(arguments[0]).then(() => true, () => false);
        outcomes.injected = window.injected === true;
        outcomes.hidden = getComputedStyle(document.body).display === 'none';
        return JSON.stringify(outcomes);
        """,
        f"{port.sandbox}/_sandbox/calls",
    )
    assert json.loads(outcome) == {
        "script": "TypeError", "html": "TypeError", "fetched": False, "injected": False, "hidden": False,
    }
    violated = {line.split(":")[0] for line in browser.violations()}
    assert {"style-src-elem", "connect-src"} <= violated


def test_the_one_line_of_html_shows_the_image(page, port, open_browser, tmp_path):
    (tmp_path / "own.html").write_text(f"<!DOCTYPE html>{page.text('#after')}")
    other = open_browser()
    other.driver.get((tmp_path / "own.html").as_uri())
    image = other.driver.find_element(By.TAG_NAME, "img")
    wait_until("the image is there", lambda: image.get_property("naturalWidth") == 96)
