"""The painter in a real browser, with mouse, keys and fingers. All tests share one page, and each begins with a fresh photo.

``--screenshots FOLDER`` keeps pictures of it there.
"""

import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import drag, free_port, serving, watched_page
from PIL import Image

pytestmark = pytest.mark.browser
W, H = 256, 192
CELL = """
import torch
from refine_lib.widgets import MaskPainter
MaskPainter(torch.rand(1, 3, 192, 256))
"""
HERE = """
    window.stage = () => document.querySelector(".refine-stage").getBoundingClientRect();
    window.alphas = (shown, width, height) => {
      const pen = new OffscreenCanvas(width, height).getContext("2d");
      pen.drawImage(shown, 0, 0);
      return pen.getImageData(0, 0, width, height).data.filter((value, i) => i % 4 === 3);
    };
    window.holes = () => alphas(document.querySelector("img[data-name=hole]"), 256, 192);
    window.painted = (x, y) => holes()[y * 256 + x] > 0;
    window.area = () => holes().filter((alpha) => alpha > 0).length;
    window.drawn = () => {  // what the page itself shows of strokes
      const canvas = document.querySelector(".refine-painter canvas");
      return alphas(canvas, canvas.width, canvas.height).filter((alpha) => alpha > 0).length;
    };
    window.isStill = () => [...document.querySelectorAll(".refine-stage img")].every((img) => img.ariaBusy !== "true");
    window.others = [];  // the keys that reach who listens on the page
    document.addEventListener("keydown", (event) => others.push(event.key), true);
"""


@pytest.fixture(scope="module")
def shared(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("painter")
    cell = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["app"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / "painter.ipynb")
    port = free_port()
    sent = []
    with serving(folder) as serve, watched_page(browser, viewport={"width": 900, "height": 1000}, has_touch=True) as page:
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
        page.add_init_script(HERE)
        url = f"http://127.0.0.1:{port}"
        serve("refine_lib.widgets", str(folder / "painter.ipynb"), "--port", str(port), url=url + "/voila/static/voila.js")
        page.goto(url)
        page.wait_for_function("document.querySelector('img[data-name=hole]')?.naturalWidth === 256")
        page.get_by_role("button", name="Redo").wait_for()
        page.sent, page.top = sent, page.evaluate("stage().top")
        yield page
        page.goto("about:blank")


@pytest.fixture
def page(shared, tmp_path):
    """The page, with a photo that has no hole yet, all of it seen, and the brush that it begins with."""
    noise = np.random.default_rng().integers(0, 256, (H, W, 3), np.uint8)  # another one each time
    Image.fromarray(noise).save(tmp_path / "photo.png")
    shared.set_viewport_size({"width": 900, "height": 1000})
    shared.get_by_role("button", name="paint", exact=True).click()
    shared.mouse.move(5, 5)
    opened(shared, tmp_path / "photo.png")
    shared.wait_for_function("top => isStill() && area() === 0 && stage().width === 640 && stage().top === top", arg=shared.top)
    return shared


def opened(page, path, kind="photo"):
    """Opens a file, and waits until another picture is shown."""
    name = "picture" if kind == "photo" else "hole"
    before = page.evaluate(f"document.querySelector('img[data-name={name}]').src")
    page.set_input_files(f"input[data-kind={kind}]", path)
    page.wait_for_function(f"before => document.querySelector('img[data-name={name}]').src !== before && isStill()", arg=before)


def where(page, x, y):
    """Where the middle of a pixel of the picture is on the page."""
    stage = page.evaluate("[stage().left, stage().top, stage().width, stage().height]")
    return stage[0] + (x + 0.5) / W * stage[2], stage[1] + (y + 0.5) / H * stage[3]


def point(page, x, y):
    page.mouse.move(*where(page, x, y))


def dot(page, x, y):
    point(page, x, y)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_function(f"painted({x}, {y})")


def hole(page):
    page.wait_for_function("isStill()")
    return np.reshape(page.evaluate("[...holes()]"), (H, W)) > 0


def width(page):
    return int(page.get_by_role("slider", name="brush, px").get_attribute("aria-valuenow").partition(".")[0])


def after_a_frame(page):
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


class TestZoom:
    @pytest.mark.parametrize("steps, x, y", [(0, 40, 50), (2, 200, 30), (6, 128, 96), (40, 77, 141)])
    def test_strokes_land_under_the_pointer(self, page, steps, x, y):
        point(page, x, y)
        before = where(page, x, y)
        for _ in range(steps):
            page.mouse.wheel(0, -120)
        page.wait_for_function("zoomed => (stage().width > 641) === zoomed", arg=steps > 0)
        after_a_frame(page)
        brush, scale = page.locator(".refine-brush").bounding_box(), page.evaluate("stage().width") / W
        assert np.allclose(where(page, x, y), before, atol=scale / 2)  # the pointer, at whole pixels, stays where it was
        assert abs(brush["width"] - width(page) * scale) < 1.5
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function(f"painted({x}, {y})")
        ys, xs = np.nonzero(hole(page))
        assert abs(xs.mean() - x) < 1 and abs(ys.mean() - y) < 1
        assert abs(len(xs) / (np.pi / 4 * width(page) ** 2) - 1) < 0.1

    def test_zero_a_double_click_and_a_button_show_all_again_and_paint_nothing(self, page):
        show_all = page.get_by_role("button", name="Show all")
        for show in (
            lambda: page.keyboard.press("0"),
            lambda: page.mouse.dblclick(*where(page, 100, 100)),
            lambda: show_all.click(),
        ):
            assert not show_all.is_visible()
            point(page, 100, 100)
            page.mouse.wheel(0, -500)
            page.wait_for_function("stage().width > 1000")
            show()
            page.wait_for_function("stage().width === 640")
        dot(page, 30, 30)
        assert not hole(page)[100, 100]

    def test_space_and_the_middle_button_pan_and_nothing_is_sent(self, page):
        point(page, 128, 96)
        sent = len(page.sent)
        page.mouse.wheel(0, -500)
        page.wait_for_function("stage().width > 1000")
        for press, release in (
            (lambda: page.mouse.down(button="middle"), lambda: page.mouse.up(button="middle")),
            (lambda: (page.keyboard.down(" "), page.mouse.down()), lambda: (page.mouse.up(), page.keyboard.up(" "))),
        ):
            point(page, 128, 96)
            x, y = where(page, 128, 96)
            press()
            for step in range(10):
                page.mouse.move(x + 3 * step, y + 2 * step)
            release()
            after_a_frame(page)
            assert np.allclose(where(page, 128, 96), (x + 27, y + 18), atol=0.6)
        assert len(page.sent) == sent
        dot(page, 128, 96)
        assert abs(hole(page).sum() / (np.pi / 4 * width(page) ** 2) - 1) < 0.1

    def test_a_large_photo_is_sharp_where_it_is_zoomed(self, page, tmp_path):
        noise = np.random.default_rng(1).integers(0, 256, (1536, 2048, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "large.png", compress_level=1)
        opened(page, tmp_path / "large.png")
        look = (
            "name => { const i = document.querySelector(`img[data-name=${name}]`); return [i.naturalWidth, i.naturalHeight] }"
        )
        assert page.evaluate(look, "picture") == [1024, 768]
        point(page, 128, 96)
        page.mouse.wheel(0, -1500)
        page.wait_for_function("!document.querySelector('img[data-name=detail]').hidden && isStill()")
        wide, high = page.evaluate(look, "detail")
        detail = np.reshape(page.evaluate("pixels('detail')"), (high, wide, 4))[..., :3]
        style = page.evaluate("(({left, top}) => [left, top])(document.querySelector('img[data-name=detail]').style)")
        left, top = (round(float(at.rstrip("%")) / 100 * side) for at, side in zip(style, (2048, 1536), strict=True))
        assert wide < 1024 and np.array_equal(detail, noise[top : top + high, left : left + wide])
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function("share('detail_hole') > 0.01")
        page.keyboard.press("0")
        page.wait_for_function("document.querySelector('img[data-name=detail]').hidden")


class TestKeys:
    def test_brackets_change_the_brush_and_the_slider_follows(self, page):
        point(page, 50, 50)  # the pointer over it is enough
        before = width(page)
        page.keyboard.press("]")
        page.wait_for_function("old => document.querySelector('.noUi-handle').getAttribute('aria-valuenow') > old", arg=before)
        larger = width(page)
        brush = page.locator(".refine-brush").bounding_box()
        assert larger > before and abs(brush["width"] - larger * 2.5) < 1
        for _ in range(20):
            page.keyboard.press("[")
        page.wait_for_function("Number(document.querySelector('.noUi-handle').getAttribute('aria-valuenow')) === 1")

    def test_undo_and_redo(self, page):
        dot(page, 60, 60)
        dot(page, 160, 60)
        page.keyboard.press("Control+z")
        page.wait_for_function("painted(60, 60) && !painted(160, 60)")
        page.keyboard.press("Control+z")
        page.wait_for_function("area() === 0")
        page.keyboard.press("Control+Shift+Z")
        page.wait_for_function("painted(60, 60) && !painted(160, 60)")
        page.keyboard.press("Control+y")
        page.wait_for_function("painted(160, 60)")
        page.get_by_role("button", name="Undo").click()
        page.wait_for_function("!painted(160, 60)")
        page.get_by_role("button", name="Redo").click()
        page.wait_for_function("painted(160, 60)")

    def test_shift_draws_straight_lines(self, page):
        dot(page, 30, 150)
        page.keyboard.down("Shift")
        dot(page, 220, 40)
        page.keyboard.up("Shift")
        line = hole(page)
        assert all(line[150 - 11 * i, 30 + 19 * i] for i in range(11)) and not line[40, 30]
        page.get_by_role("button", name="Clear").click()
        page.wait_for_function("area() === 0")
        point(page, 30, 30)
        page.mouse.down()
        page.keyboard.down("Shift")
        point(page, 128, 180)
        point(page, 220, 30)
        page.mouse.up()
        page.keyboard.up("Shift")
        page.wait_for_function("painted(128, 30)")
        assert not hole(page)[60:].any()

    def test_keys_are_taken_where_they_are_meant_and_no_others(self, page):
        dot(page, 60, 60)
        page.evaluate("others.length = 0")
        for key in ("[", "]", "0", "Control+z", "Control+y", "q", "Control+b"):
            page.keyboard.press(key)
        assert page.evaluate("others.filter((key) => key !== 'Control').join('')") == "qb"
        path = page.get_by_role("textbox", name="or a path")
        path.focus()
        point(page, 60, 60)  # the pointer is over it, but the path is being typed
        page.keyboard.type("[0] -")
        assert path.input_value() == "[0] -"
        path.fill("")
        page.evaluate("document.activeElement.blur(), others.length = 0")
        page.mouse.move(890, 990)
        page.keyboard.press("]")
        assert page.evaluate("others.join('')") == "]" and page.evaluate("painted(60, 60)")

    def test_the_keyboard_alone_paints(self, page):
        page.get_by_role("slider", name="brush, px").focus()
        for _ in range(5):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className").startswith("refine-painter"):
                break
        canvas = page.get_by_role("application", name="picture to paint a hole on, 256 x 192 pixels")
        assert canvas.evaluate("canvas => canvas === document.activeElement && canvas.matches(':focus-visible')")
        assert "Enter begins a stroke" in canvas.evaluate(
            "canvas => document.getElementById(canvas.getAttribute('aria-describedby')).textContent"
        )
        assert page.locator(".refine-brush").is_visible()
        for _ in range(2):
            page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Enter")
        assert "Enter ends it" in page.locator(".refine-files [role=status]").inner_text()
        for _ in range(3):
            page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        x, far = round(128 - 0.2 * 256), round(0.3 * 256)
        page.wait_for_function(f"painted({x}, {96 - far // 2})")
        line = hole(page)
        assert line[96, x] and line[96 - far + 2, x] and not line[96, 128] and not line[:, 128:].any()
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Escape")
        page.keyboard.press("Control+z")
        page.wait_for_function("area() === 0")

    def test_a_photo_and_a_mask_are_opened_by_keyboard(self, page, tmp_path):
        mask = np.zeros((H, W), bool)
        mask[20:40, 30:60] = True
        np.save(tmp_path / "mask.npy", mask)
        page.get_by_role("button", name="Open a photo ...").focus()
        page.keyboard.press("Tab")
        focused = "[document.activeElement.textContent, getComputedStyle(document.activeElement).outlineStyle]"
        assert page.evaluate(focused) == ["Open a mask ...", "solid"]
        with page.expect_file_chooser() as chosen:
            page.keyboard.press(" ")
        chosen.value.set_files(tmp_path / "mask.npy")
        page.wait_for_function("painted(45, 30)")
        assert np.array_equal(hole(page), mask)


class TestTouch:
    @pytest.fixture
    def touch(self, page):
        session = page.context.new_cdp_session(page)

        def send(kind, *points):
            points = [dict(x=x, y=y, id=i) for i, (x, y) in enumerate(points)]
            session.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=points))

        yield send
        session.detach()

    def test_one_finger_paints(self, page, touch):
        touch("touchStart", where(page, 50, 60))
        for x in range(60, 150, 10):
            touch("touchMove", where(page, x, 60))
        touch("touchEnd")
        page.wait_for_function("painted(100, 60) && painted(140, 60)")
        assert page.evaluate("[scrollX, scrollY]") == [0, 0]

    def test_two_fingers_scroll_the_page_and_paint_nothing(self, page, touch):
        page.set_viewport_size({"width": 900, "height": 500})
        (x, y), before = where(page, 100, 120), page.evaluate("stage().top")
        touch("touchStart", (x, y))
        touch("touchStart", (x, y), (x + 90, y))
        for step in range(1, 20):
            touch("touchMove", (x, y - 8 * step), (x + 90, y - 8 * step))
        for _ in range(10):
            after_a_frame(page)  # the fingers rest, so that the page does not glide on
        touch("touchEnd")
        page.wait_for_function("before => stage().top < before - 50", arg=before)
        assert page.evaluate("[drawn(), area()]") == [0, 0]
        page.set_viewport_size({"width": 900, "height": 1000})

    def test_a_second_finger_drops_the_stroke_of_the_first(self, page, touch):
        x, y = where(page, 50, 60)
        touch("touchStart", (x, y))
        touch("touchMove", (x + 80, y))
        page.wait_for_function("drawn() > 0")
        touch("touchStart", (x + 80, y), (x + 80, y + 90))
        touch("touchMove", (x + 160, y), (x + 160, y + 90))
        page.wait_for_function("drawn() === 0")
        touch("touchEnd")
        touch("touchStart", where(page, 200, 150))
        touch("touchEnd")
        page.wait_for_function("painted(200, 150)")
        assert not hole(page)[:120].any()


class TestFiles:
    def give(self, page, event, path, on):
        """Drops or pastes a file. Returns whether the browser is kept from its own answer."""
        kind = "application/octet-stream" if path.suffix == ".npy" else "image/png"
        return page.evaluate(
            """([event, bytes, name, kind, on]) => {
                const given = new DataTransfer();
                given.items.add(new File([new Uint8Array(bytes)], name, { type: kind }));
                const options = { bubbles: true, cancelable: true, dataTransfer: given, clipboardData: given };
                const target = document.querySelector(on);
                if (event === "paste") return !target.dispatchEvent(new ClipboardEvent("paste", options));
                target.dispatchEvent(new DragEvent("dragover", options));
                return !target.dispatchEvent(new DragEvent("drop", options));
            }""",
            [event, list(path.read_bytes()), path.name, kind, on],
        )

    @pytest.fixture
    def files(self, tmp_path):
        Image.new("RGB", (W, H), (200, 10, 10)).save(tmp_path / "red.png")
        mask = np.zeros((H, W), bool)
        mask[100:150, 30:60] = True
        Image.fromarray(mask).save(tmp_path / "mask.png")
        Image.fromarray(np.where(mask, 90, 0).astype(np.uint8)).save(tmp_path / "gray.png")
        return tmp_path

    @pytest.mark.parametrize("event", ["drop", "paste"])
    def test_a_picture_is_dropped_or_pasted_and_so_is_its_mask(self, page, files, event):
        point(page, 100, 100)
        assert self.give(page, event, files / "red.png", ".refine-painter")
        page.wait_for_function("pixels('picture').slice(0, 3).join() === '200,10,10'")
        assert self.give(page, event, files / "mask.png", ".refine-painter")
        page.wait_for_function("painted(45, 120)")
        page.get_by_text("mask.png is black and white and of the picture's size").wait_for()
        assert page.evaluate("pixels('picture').slice(0, 3).join()") == "200,10,10"
        assert hole(page).sum() == 50 * 30

    def test_a_file_on_the_mask_button_is_a_mask(self, page, files):
        assert self.give(page, "drop", files / "red.png", "button[data-kind=mask]")
        page.get_by_text("red.png").wait_for()
        message = page.get_by_role("status").filter(has_text="red.png").inner_text()
        assert "Error" not in message

    def test_a_file_beside_the_painter_does_not_replace_the_page(self, page, files):
        url = page.url
        assert self.give(page, "drop", files / "red.png", "body")
        dot(page, 20, 20)
        assert page.url == url and page.evaluate("pixels('picture').slice(0, 3).join()") != "200,10,10"

    def test_a_wrong_file_is_told_and_the_message_goes(self, page, files):
        (files / "notes.png").write_text("no picture")
        page.set_input_files("input[data-kind=photo]", files / "notes.png")
        page.get_by_text("notes.png cannot be read as a picture").wait_for()
        dot(page, 20, 20)
        assert page.get_by_text("notes.png").count() == 0


class TestEveryone:
    def test_every_control_has_a_name_a_role_and_a_state(self, page):
        for role, name in [
            ("combobox", "picture"),
            ("textbox", "or a path"),
            ("slider", "brush, px"),
            ("textbox", "brush, px, typed"),
            ("button", "Undo"),
            ("button", "Redo"),
            ("button", "Clear"),
            ("button", "Invert"),
            ("button", "Extend ..."),
            ("button", "Open a photo ..."),
            ("button", "Open a mask ..."),
        ]:
            assert page.get_by_role(role, name=name, exact=True).count() == 1, (role, name)
        page.get_by_role("button", name="rectangle", exact=True).click()
        point(page, 9, 9)
        page.wait_for_function(
            "(brush => brush.hidden || brush.style.width === '7px')(document.querySelector('.refine-brush'))"
        )
        page.get_by_role("button", name="rectangle", exact=True, pressed=True).wait_for()
        page.get_by_role("button", name="paint", exact=True, pressed=False).wait_for()
        assert page.get_by_role("button", name="Undo").is_disabled()
        drag(page, page.locator(".refine-painter"), (0.25, 0.25), (0.5, 0.5))
        page.wait_for_function("painted(96, 72)")
        assert hole(page).sum() == pytest.approx(64 * 48, rel=0.05) and page.get_by_role("button", name="Undo").is_enabled()

    def test_the_canvas_is_extended(self, page):
        page.get_by_role("button", name="Extend ...").click()
        page.get_by_role("spinbutton", name="bottom").fill("64")
        page.get_by_role("button", name="Extend by these pixels").click()
        page.get_by_text("Quality falls with the distance").wait_for()
        page.wait_for_function("isStill() && document.querySelector('img[data-name=hole]').naturalHeight === 256")
        assert abs(page.evaluate("share('hole')") - 0.25) < 0.001
        page.get_by_role("button", name="Extend ...").click()

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing(self, page, theme, picture_of):
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
        unfold = page.get_by_role("button", name="Extend ...")
        unfold.click()
        page.get_by_text("Keys and gestures").click()
        path = page.get_by_role("textbox", name="or a path")
        path.fill("nowhere.png")
        path.press("Enter")
        page.get_by_text("expected the path of a picture").wait_for()
        point(page, 50, 50)
        page.mouse.wheel(0, -200)
        page.get_by_role("button", name="Show all").wait_for()
        style = None
        if theme == "dark":
            css = Path(sys.prefix, "share/jupyter/lab/themes/@jupyterlab/theme-dark-extension/index.css").read_text()
            style = page.add_style_tag(content=css[css.index(":root") :] + "body { background: #111 !important; }")
        picture_of(page, f"painter_{theme}")
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        found = axe.Axe().run(page, context=".refine-mask-painter", options={"runOnly": tags})
        assert found.violations_count == 0, found.generate_report()
        if style:
            style.evaluate("style => style.remove()")
        page.get_by_text("Keys and gestures").click()
        unfold.click()

    @pytest.mark.parametrize("wide", [390, 640])  # a telephone; 1280 pixels, enlarged twice
    def test_nothing_is_wider_than_the_page(self, page, wide, picture_of):
        unfold = page.get_by_role("button", name="Extend ...")
        unfold.click()
        page.set_viewport_size({"width": wide, "height": 844})
        page.wait_for_function("wide => stage().width < wide", arg=wide)
        picture_of(page, f"painter_{wide}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        unfold.click()
        page.set_viewport_size({"width": 900, "height": 1000})
        page.wait_for_function("stage().width === 640")

    def test_nothing_moves_where_that_is_not_wanted(self, page):
        page.emulate_media(reduced_motion="reduce")
        moving = (
            "[...document.querySelectorAll('.refine-mask-painter *')].filter((one) => getComputedStyle(one).transitionDuration"
        )
        assert page.evaluate(moving + " !== '0s' && getComputedStyle(one).transitionProperty !== 'none').length") == 0
        page.emulate_media(reduced_motion="no-preference")
