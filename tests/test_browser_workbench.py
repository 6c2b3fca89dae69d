"""Painter and panel beside each other, in a real browser. All tests share one page of lesson 5, in their order.

``--screenshots FOLDER`` keeps pictures of it there: app.png as the README shows it, and others.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from browser import drag, free_port, serving, watched_page
from conftest import ROOT
from PIL import Image

pytestmark = pytest.mark.browser
WIDE = {"width": 1280, "height": 1000}
LESSON = ROOT / "notebooks" / "05_tune_it.ipynb"
SAYS = "text => document.querySelector('.refine-status')?.textContent.includes(text)"


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    port = free_port()
    with serving(tmp_path_factory.mktemp("workbench")) as serve, watched_page(browser, viewport=WIDE) as page:
        serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"http://127.0.0.1:{port}/voila/static/voila.js")
        page.goto(f"http://127.0.0.1:{port}", wait_until="commit")
        page.get_by_text("The panel opens as soon as its kernel has started").wait_for()
        page.before = page.evaluate("[document.querySelectorAll('.refine-workbench').length, innerWidth, scrollX]")
        page.wait_for_function(SAYS, arg="one plain pass")
        page.wait_for_function("isShown('plain')")
        yield page
        page.goto("about:blank")


def box(page, selector):
    return page.locator(selector).first.bounding_box()


def put(page, name, value):
    number_box = page.get_by_role("spinbutton", name=f"{name}, as a number")
    number_box.fill(value)
    number_box.press("Enter")


def run(page, number, iterations):
    put(page, "iterations", iterations)
    page.get_by_role("button", name="Fill this hole").click()
    page.wait_for_function(SAYS, arg=f"run {number} finished")
    page.wait_for_function(f"isShown('run {number}')")


def test_where_the_panel_will_be_is_seen_before_there_is_a_kernel(page):
    assert page.before[0] == 0  # the words were there, and the panel was not
    assert not page.get_by_text("The panel opens as soon as its kernel has started").is_visible()


def test_painter_and_result_are_beside_each_other_with_the_same_picture(page, picture_of):
    painter, result = box(page, ".refine-painter"), box(page, "img[data-name=after_zoom]")
    assert painter["x"] + painter["width"] < result["x"]
    assert abs(painter["width"] - result["width"]) < 0.35 * painter["width"]
    shared = min(painter["y"] + painter["height"], result["y"] + result["height"]) - max(painter["y"], result["y"])
    assert shared > 0.6 * painter["height"]  # both are seen without scrolling
    assert page.evaluate("difference(pixels('after_zoom'), pixels('after'))") < 2  # all of it
    picture_of(page, "workbench_at_rest")


def test_one_click_fills_and_two_settings_are_compared_with_the_zoom_locked(page, picture_of):
    run(page, 1, iterations="3")
    run(page, 2, iterations="15")
    page.get_by_role("combobox", name="left of the line").select_option("run 1")
    page.get_by_role("radio", name="side by side").check()
    page.get_by_text("iterations 3 | 15").wait_for()
    page.get_by_role("combobox", name="zoom", exact=True).select_option("4 times")
    page.wait_for_function("document.querySelector('.refine-pane').offsetWidth > 0")  # the whole, with a box on it
    page.wait_for_function("isShown('run 2') && difference(pixels('before_zoom'), pixels('after_zoom')) > 0.2")
    before = page.evaluate("[pixels('before_zoom'), pixels('after_zoom')]")
    drag(page, page.locator(".refine-pane").first, (0.5, 0.5), (0.95, 0.1))
    moved = "before => ['before_zoom', 'after_zoom'].every((name, i) => difference(pixels(name), before[i]) > 3)"
    page.wait_for_function(moved, arg=before)
    picture_of(page, "workbench_two_settings")
    page.get_by_role("radio", name="line between").check()
    page.get_by_role("combobox", name="zoom", exact=True).select_option("none: all of it")


def test_the_keyboard_alone_fills_and_the_focus_is_seen(page, picture_of):
    put(page, "learning rate", "0.02")
    page.get_by_role("button", name="Invert").focus()
    focused = lambda: page.evaluate("document.activeElement.textContent.trim()")  # noqa: E731
    for _ in range(3):
        page.keyboard.press("Tab")
        if focused() == "Fill this hole":
            break
    assert focused() == "Fill this hole"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    picture_of(page, "workbench_focus")
    page.keyboard.press("Enter")
    page.wait_for_function(SAYS, arg="run 3 finished")
    page.set_viewport_size({"width": 1320, "height": 1400})
    page.wait_for_function("isShown('run 3') && cell('error') !== ''")  # the plain pass is made behind the run
    page.get_by_role("combobox", name="left of the line").select_option("plain")
    page.wait_for_function("document.querySelector('.refine-below span').textContent === 'plain' && isShown('run 3')")
    page.get_by_role("radio", name="side by side").check()
    picture_of(page.locator(".refine-workbench"), "app")
    page.get_by_role("radio", name="line between").check()
    page.set_viewport_size(WIDE)


def test_a_preset_a_guide_and_the_pictures_on_the_way(page):
    presets = page.get_by_role("combobox", name="preset")
    presets.select_option(presets.locator("option", has_text="fast").text_content())
    page.wait_for_function("document.querySelector('input[type=number][aria-label^=iterations]').value === '5'")
    page.get_by_role("combobox", name="led by").select_option("mini-conv's small plain fill")
    page.get_by_role("button", name="Run").click()
    page.wait_for_function(SAYS, arg="run 4 finished")
    page.wait_for_function("isShown('run 4') && cell('led by') === 'mini-conv'")
    last = page.evaluate("pixels('after')")
    page.get_by_role("slider", name="the picture after").focus()
    page.keyboard.press("Home")
    page.wait_for_function("isShown('run 4, 0 updates')")
    assert page.evaluate("last => difference(pixels('after'), last)", last) > 0.2
    page.locator(".refine-viewer").get_by_role("radio", name="line between").focus()
    page.keyboard.down("b")
    page.wait_for_function("document.querySelector('.refine-viewer').classList.contains('refine-held')")
    page.keyboard.up("b")
    page.get_by_role("combobox", name="led by").select_option("the small plain fill")
    page.get_by_role("button", name="Reset to the paper's").click()
    page.wait_for_function("document.querySelector('input[type=number][aria-label^=iterations]').value === '15'")


def test_the_error_is_offered_where_there_is_a_truth_and_a_hole_that_is_all_is_told(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    error = page.get_by_role("checkbox", name="show the error")
    assert error.is_visible()
    page.set_input_files("input[data-kind=photo]", tmp_path / "photo.png")
    page.wait_for_function("document.querySelector('img[data-name=picture]').naturalWidth === 96 && share('hole') === 0")
    page.get_by_role("button", name="Invert").click()
    page.wait_for_function("share('hole') === 1")
    page.get_by_role("button", name="Fill this hole").click()
    page.get_by_text("The hole is the whole picture: there is nothing to go by.").wait_for()
    assert not error.is_visible()
    page.wait_for_function(SAYS, arg="run 1 finished")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page, theme, picture_of):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    style = None
    if theme == "dark":
        css = Path(sys.prefix, "share/jupyter/lab/themes/@jupyterlab/theme-dark-extension/index.css").read_text()
        style = page.add_style_tag(content=css[css.index(":root") :] + "body { background: #111 !important; }")
        page.evaluate("document.body.dataset.jpThemeLight = false")
    picture_of(page, f"workbench_{theme}")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = axe.Axe().run(page, context=".refine-workbench", options={"runOnly": tags})
    if style:
        style.evaluate("style => style.remove()")
        page.evaluate("document.body.dataset.jpThemeLight = true")
    assert found.violations_count == 0, found.generate_report()


def test_every_control_has_a_name(page):
    controls = "input:not([type=file]), select, button, textarea, [role=slider], [role=textbox], [tabindex='0']"
    unnamed = page.evaluate(
        """controls => [...document.querySelector(".refine-workbench").querySelectorAll(controls)]
        .filter((one) => one.offsetParent && !one.labels?.length && !one.ariaLabel && !one.textContent.trim()
          && !one.getAttribute("aria-labelledby") && !one.title && !one.closest("[aria-label]"))
        .map((one) => one.outerHTML.slice(0, 200))""",
        controls,
    )
    assert unnamed == []


@pytest.mark.parametrize("wide", [390, 640])  # a telephone; 1280 pixels, enlarged twice
def test_one_column_where_it_is_narrow_and_nothing_is_wider_than_the_page(page, wide, picture_of):
    page.set_viewport_size({"width": wide, "height": 844})
    page.wait_for_function("wide => document.querySelector('.refine-painter').offsetWidth < wide", arg=wide)
    painter, result = box(page, ".refine-painter"), box(page, "img[data-name=after_zoom]")
    assert painter["y"] + painter["height"] < result["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= wide
    page.set_viewport_size({"width": wide, "height": 4000})
    picture_of(page, f"workbench_{wide}")
    page.set_viewport_size(WIDE)
