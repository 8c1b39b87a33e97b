"""The images of the page: their sizes, the default image, changes and links that end."""

from support import wait_until

PICTURE = "15551230001"
# No picture, another host, not on WhatsApp, a rejected token, an error of the server, and no answer at all.
DEFAULTS = ("15551230004", "15551230005", "15551230006", "15551230007", "15551230010", "15551230012")


def test_images_load_in_the_size_that_they_are_asked_for(page, port):
    widths = page.run(
        "return [...document.querySelectorAll('.contact img')].map((img) => [img.naturalWidth, img.naturalHeight])"
    )
    assert widths == [[96, 96]] * 15
    wait_until("the portrait is there", lambda: page.run("return portrait.naturalWidth === 192 && portrait.complete"))
    headers, _ = port.image(PICTURE)
    assert (headers["Content-Type"], headers["Avatar-Status"]) == ("image/jpeg", "present")


def test_a_contact_without_a_picture_and_a_failed_look_up_show_the_default_image(page, port):
    assert len({page.pixels(number) for number in DEFAULTS}) == 1, "all of them show the same"
    assert page.pixels(PICTURE) != page.pixels(DEFAULTS[0])
    for number in DEFAULTS[:4]:
        headers, _ = port.image(number)
        assert headers["Content-Type"].startswith("image/svg+xml"), number
        assert headers["Avatar-Status"] in ("absent", "unavailable"), number


def test_a_changed_picture_takes_the_place_of_the_old_one(page, port):
    page.choose(PICTURE)
    before, source = page.pixels(PICTURE), page.source(PICTURE)
    _, asked = port.state()
    page.press("change")
    assert page.source(PICTURE) == source, "the service does not know of it yet"
    page.press("ask")
    wait_until("the image is another one", lambda: page.pixels(PICTURE) not in (None, before))
    assert page.source(PICTURE).split("?")[0] == source.split("?")[0], "the address is the same"
    assert page.is_same_document()
    _, now = port.state()
    assert now["look_ups_by_number"][PICTURE] == asked["look_ups_by_number"][PICTURE] + 1
    # Both sizes of the page come from one download.
    assert now["images_by_number"][PICTURE] == asked["images_by_number"][PICTURE] + 1


def test_a_link_that_the_cdn_refuses_heals_without_a_reload(page, port):
    page.choose(PICTURE)
    before = page.pixels(PICTURE)
    _, asked = port.state()
    port.break_links(chat_id=PICTURE, times=1, fault="expired")
    page.press("change")
    page.press("ask")
    wait_until("the image is another one", lambda: page.pixels(PICTURE) not in (None, before))
    wait_until("it is a picture", lambda: page.text("#fact-image") == "Shown")
    assert page.is_same_document()
    _, now = port.state()
    # One look-up for the button and one for the healing; one download that was refused and one that was not.
    assert now["look_ups_by_number"][PICTURE] == asked["look_ups_by_number"][PICTURE] + 2
    assert now["images_by_number"][PICTURE] == asked["images_by_number"][PICTURE] + 2


def test_a_picture_that_cannot_be_had_comes_back_by_itself(page, port):
    page.choose(PICTURE)
    before = page.pixels(PICTURE)
    port.break_links(chat_id=PICTURE, times=1, fault="unavailable")
    page.press("change")
    page.press("ask")
    wait_until("the page says so", lambda: page.text("#fact-image").startswith(("Default", "Shown, from before")))
    wait_until("it is a picture", lambda: page.text("#fact-image") == "Shown")
    assert page.pixels(PICTURE) != before
    assert page.is_same_document()
