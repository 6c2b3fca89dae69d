"""The viewer's page by itself, with two pictures and nothing behind it: what is seen, by pixels, and what is sent."""

import io

import numpy as np
import pytest
from browser import browser  # noqa: F401
from PIL import Image

from refine_lib.widgets.viewer import Viewer

pytestmark = pytest.mark.browser
SIDE, GRAY, HOLE = 200, 100, (slice(50, 150), slice(50, 150))
PAGE = """
    <html lang="en"><title>viewer</title><link rel="stylesheet" href="widgets.css"><main></main><script type="module">
    import widget from "./viewer.js";
    const bytes = async (name) => new DataView(await (await fetch(name)).arrayBuffer());
    const state = {before_name: "plain", after_name: "run 1", aspect: 1, box: [0.25, 0.25, 0.5, 0.5]};
    for (const name of ["before", "after", "before_zoom", "after_zoom"]) state[name] = await bytes(name);
    window.sent = [];
    const model = {get: (name) => state[name], on() {}, off() {}, send: (message) => sent.push(message)};
    widget.render({model, el: document.querySelector("main")});
    </script></html>
"""


def pictures():
    """Gray, with a hole that is darker before and lighter after; and the middle of both."""
    shown = {}
    for name, value in {"before": GRAY - 20, "after": GRAY + 20}.items():
        pixels = np.full((SIDE, SIDE, 3), GRAY, np.uint8)
        pixels[HOLE] = value
        shown |= {name: pixels, f"{name}_zoom": pixels[HOLE].repeat(2, 0).repeat(2, 1)}
    return shown


@pytest.fixture(params=[(1100, 700), (390, 844)], ids=["wide", "phone"])
def page(browser, request):  # noqa: F811
    files = {name: _png(pixels) for name, pixels in pictures().items()} | {"": PAGE.encode()}
    files |= {"viewer.js": Viewer._esm.encode(), "widgets.css": Viewer._css.encode()}
    kinds = {"": "text/html", "viewer.js": "text/javascript", "widgets.css": "text/css"}

    def answer(route):
        name = route.request.url.rpartition("/")[2]
        known = name in files
        route.fulfill(status=200 if known else 404, body=files.get(name, b""), content_type=kinds.get(name, "image/png"))

    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height}, has_touch=width < 500)
    page.route("http://127.0.0.1:1/**", answer)
    page.goto("http://127.0.0.1:1/")
    page.wait_for_function("[...document.images].length === 4 && [...document.images].every(i => i.complete && i.naturalWidth)")
    yield page
    page.close()


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def seen(page, number, *points):
    """The gray that a pane shows at points, in shares of its width and height."""
    picture = Image.open(io.BytesIO(page.locator(".refine-pane").nth(number).screenshot())).convert("L")
    return [picture.getpixel((int(x * picture.width), int(y * picture.height))) for x, y in points]


LEFT, RIGHT = (0.35, 0.4), (0.65, 0.4)  # in the hole


def test_a_line_between_by_mouse_and_by_keys(page):
    assert seen(page, 0, LEFT, RIGHT, (0.1, 0.1)) == [80, 120, 100] and seen(page, 1, LEFT, RIGHT) == [80, 120]
    slider = page.get_by_role("slider", name="line between before and after")
    slider.focus()
    page.keyboard.press("Home")
    assert seen(page, 0, LEFT, RIGHT) == [120, 120]
    zoom = page.locator(".refine-pane").nth(1).bounding_box()
    page.mouse.click(zoom["x"] + 0.9 * zoom["width"], zoom["y"] + 5)
    assert seen(page, 1, LEFT, RIGHT) == [80, 80] and float(slider.input_value()) == pytest.approx(0.9, abs=0.01)


def test_side_by_side_shows_the_same_part_of_both(page):
    page.get_by_role("radio", name="side by side").check()
    assert seen(page, 1, (0.25, 0.4), (0.75, 0.4)) == [80, 120]
    assert seen(page, 0, LEFT, RIGHT) == [80, 120]


def test_the_difference_is_black_where_there_is_none(page):
    page.get_by_role("radio", name="difference").check()
    inside, outside = seen(page, 0, LEFT, (0.1, 0.1))
    assert outside == 0 and inside == pytest.approx(4 * 40, abs=2)
    assert seen(page, 1, LEFT)[0] == pytest.approx(4 * 40, abs=2)


def test_while_a_key_or_a_button_is_held_the_first_picture_is_seen(page):
    page.locator(".refine-pane").first.focus()
    page.keyboard.down("b")
    assert seen(page, 0, LEFT, RIGHT) == [80, 80]
    page.keyboard.up("b")
    assert seen(page, 0, LEFT, RIGHT) == [80, 120]
    button = page.get_by_role("button", name="Hold to see").bounding_box()
    page.mouse.move(button["x"] + 9, button["y"] + 9)
    page.mouse.down()
    assert seen(page, 0, LEFT, RIGHT) == [80, 80]
    page.mouse.up()
    assert seen(page, 0, LEFT, RIGHT) == [80, 120]


def test_the_box_goes_by_pointer_and_by_arrow_keys_and_python_is_told(page):
    page.get_by_role("group", name="arrow keys move the box").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    page.wait_for_function("sent.length > 0")
    assert page.evaluate("sent.at(-1).box") == pytest.approx([0.3, 0.0, 0.5, 0.5])
    whole = page.locator(".refine-pane").first.bounding_box()
    page.evaluate("sent.length = 0")
    page.mouse.click(whole["x"] + 1, whole["y"] + whole["height"] - 1)
    page.wait_for_function("sent.length > 0")
    assert page.evaluate("sent.at(-1).box") == pytest.approx([0, 0.5, 0.5, 0.5], abs=0.01)


def test_a_finger_may_scroll_and_nothing_is_wider_than_the_page(page):
    style = page.evaluate("[...document.querySelectorAll('.refine-pane')].map(p => getComputedStyle(p).touchAction)")
    assert style == ["pan-y pinch-zoom"] * 2
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    alternatives = page.evaluate("[...document.images].map(i => i.alt)")
    assert alternatives == [
        f"{name}, {part}" for part in ("the whole picture", "what is in the box") for name in ("run 1", "plain")
    ]
