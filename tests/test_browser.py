"""The panel and the painter in a real browser: in JupyterLab, and on the page that ``make app`` serves.

``--screenshots FOLDER`` keeps pictures of the page there.
"""

import contextlib
import json
import re
import urllib.error
import urllib.request

import nbformat
import psutil
import pytest
from browser import LOOK, SECONDS, drag, free_port
from conftest import ROOT

from refine_lib.widgets.__main__ import is_loopback, only_the_app, options

pytestmark = pytest.mark.browser
READY = "/voila/static/voila.js"  # a file that the page's server gives without a kernel
END_KERNELS = """async () => {
  const headers = { "X-XSRFToken": /_xsrf=([^;]*)/.exec(document.cookie)[1] };
  const sessions = await (await fetch("/api/sessions")).json();
  for (const { id } of sessions) await fetch(`/api/sessions/${id}`, { method: "DELETE", headers });
}"""
LESSON = ROOT / "notebooks" / "05_tune_it.ipynb"


def test_in_jupyterlab(page, browser, serve, tmp_path, picture_of):
    notebook = only_the_app(None, nbformat.read(LESSON, as_version=4), "")
    nbformat.write(notebook, tmp_path / "panel.ipynb")
    port = free_port()
    options = ["--no-browser", "--allow-root", "--IdentityProvider.token=", f"--port={port}"]
    options += [f"--ServerApp.root_dir={tmp_path}"]
    options += [f"--LabApp.{folder}={tmp_path / folder}" for folder in ("user_settings_dir", "workspaces_dir")]
    settings = tmp_path / "user_settings_dir" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # or a question would cover the page
    serve("jupyterlab", *options, url=f"http://127.0.0.1:{port}/api")
    page.goto(f"http://127.0.0.1:{port}/lab/tree/panel.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector(".jp-NotebookPanel-toolbar .jp-Notebook-ExecutionIndicator[data-status=idle]")
    for _ in range(3):  # JupyterLab may lose what it is asked for while its kernel starts
        page.click("text=Run >> nth=0")
        page.click('li[data-command="runmenu:run-all"]')
        with contextlib.suppress(pytest.importorskip("playwright.sync_api").TimeoutError):
            page.wait_for_selector(".refine-tuner", timeout=60_000)
            break
    use_the_panel(page, lambda shown, name: picture_of(shown, f"lab_{name}"))

    # Saved, and opened again when its kernel is gone: a still picture in the place of an error.
    page.click("text=File >> nth=0")
    page.click('li[data-command="docmanager:save"]')
    page.wait_for_function("document.title && !document.querySelector('.jp-mod-dirty')")
    page.evaluate(END_KERNELS)
    page.goto("about:blank")
    assert 'class=\\"refine-still' in (tmp_path / "panel.ipynb").read_text()
    again = browser.new_page()  # which may complain of widgets that are gone
    again.set_default_timeout(SECONDS)
    again.goto(f"http://127.0.0.1:{port}/lab/tree/panel.ipynb")
    still = again.get_by_role("img", name="a still picture of the panel")
    still.wait_for()
    again.wait_for_function("document.body.textContent.includes('Error displaying widget')")
    assert still.bounding_box()["height"] > 200
    assert not again.get_by_text("Error displaying widget").is_visible()
    picture_of(again, "lab_reopened")
    again.close()


def test_as_a_page_of_its_own(page, serve, picture_of):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"{url}{READY}")
    for path, host in (("/voila/files/learning_rates.png", None), ("/", "elsewhere.example")):
        request = urllib.request.Request(url + path, headers={"Host": host} if host else {})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
    answer = page.goto(url).text()
    assert "Paint a hole" in answer and "import" not in re.sub("<script.*?</script>", "", answer, flags=re.DOTALL)
    use_the_panel(page, picture_of)


def number_of(page, setting):
    """The box with the number of a setting."""
    row = page.locator(".refine-tuner .widget-hbox", has=page.locator(f".widget-hslider:has-text('{setting}')"))
    return row.last.locator("input[type=number]")


def use_the_panel(page, picture_of):
    painter, panel, bench = (page.locator(f".refine-{name}") for name in ("mask-painter", "tuner", "workbench"))
    button = lambda name, inside=panel: inside.locator(f"button:text-is('{name}')")  # noqa: E731
    says = lambda text: page.wait_for_function(  # noqa: E731
        "text => document.querySelector('.refine-status')?.textContent.includes(text)", arg=text, polling=50
    )

    # At rest: the plain pass, and an estimate.
    says("one plain pass")
    page.wait_for_function("isShown('plain')")
    assert "a run takes about" in panel.inner_text()
    picture_of(bench, "app_at_rest")
    plain = page.evaluate("pixels('after')")

    # A slider, by its handle; its number is in a box beside it.
    slider, readout = panel.locator(".widget-hslider", has_text="iterations"), number_of(page, "iterations")
    drag(page, slider.locator(".slider-container"), (0.16, 0.5), (0.25, 0.5))
    page.wait_for_function("box => box.value !== '15'", arg=readout.element_handle())
    n_iters = int(readout.input_value())
    assert 20 < n_iters < 30

    # A run: the loss falls, the picture grows and changes.
    page.evaluate("seen.length = 0")
    button("Run").click()
    says("level 3 of 3")
    picture_of(bench, "app_running")
    says("run 1 finished")
    page.wait_for_function("isShown('run 1')")
    page.wait_for_timeout(100)  # the watch looks again
    seen = page.evaluate("seen")
    losses = [loss for loss, _, _ in seen if loss]
    assert len({src for _, src, _ in seen}) >= 3 and losses[-1] < 0.5 * max(losses)
    assert {64, 256} & {width for _, _, width in seen} and seen[-1][2] == 256
    assert page.evaluate("cell('iterations')") == str(n_iters)
    assert page.evaluate("plain => difference(pixels('after'), plain)", plain) > 1
    assert page.evaluate("plain => difference(pixels('before'), plain)", plain) == 0
    picture_of(bench, "app_finished")

    # Stop, in a run that would take long.
    readout.fill("100")
    readout.press("Enter")
    button("Run").click()
    says("level 2 of 3")
    button("Stop").click()
    says("run 2 stopped")
    assert "Stopped at level 2 of 3" in panel.inner_text()

    # Another one, beside the ghosts of these two.
    readout.fill("15")
    readout.press("Enter")
    rate = number_of(page, "learning rate")
    rate.fill("0.02")
    rate.press("Enter")
    button("Run").click()
    says("run 3 finished")
    line = panel.locator(".refine-below input")
    drag(page, line, (0.5, 0.5), (0.28, 0.5))
    assert 0.2 < float(line.input_value()) < 0.35
    picture_of(bench, "app_compared")

    # The box, dragged to the picture's corner, and the file that the browser saves.
    whole = page.evaluate("pixels('after_zoom')")
    panel.get_by_role("combobox", name="zoom", exact=True).select_option("4 times")
    page.wait_for_function("whole => pixels('after_zoom').length !== whole.length && isShown('run 3')", arg=whole)
    zoomed = page.evaluate("pixels('after_zoom')")
    drag(page, panel.locator(".refine-pane").first, (0.5, 0.5), (0.98, 0.98))
    page.wait_for_function("old => difference(pixels('after_zoom'), old) > 5", arg=zoomed)
    with page.expect_download() as download:
        button("Settings (JSON)").click()
    saved = json.loads(download.value.path().read_text())
    assert saved["state"] == "finished" and saved["settings"] | {"lr": 0.02, "n_iters": 15} == saved["settings"]

    # A hole that is painted, and a run on it.
    button("Clear", painter).click()
    page.wait_for_function("share('hole') === 0")
    drag(page, painter.locator(".refine-painter"), (0.3, 0.6), (0.7, 0.7))
    page.wait_for_function("share('hole') > 0.02")
    button("rectangle", painter).click()
    drag(page, painter.locator(".refine-painter"), (0.6, 0.1), (0.8, 0.3))
    page.wait_for_function("share('hole') > 0.06")
    picture_of(painter, "app_painter")
    button("Undo", painter).click()
    page.wait_for_function("share('hole') < 0.06")
    readout.fill("5")
    readout.press("Enter")
    button("Fill this hole", painter).click()
    painter.locator("button", has_text=re.compile("Handing over|Filling")).wait_for()
    says("run 4 finished")
    button("Fill this hole", painter).wait_for()
    assert page.evaluate("cell('iterations')") == "5"
    assert "Error" not in panel.inner_text() + painter.inner_text()


def test_a_reload_and_a_link_from_elsewhere_find_the_runs_again(page, serve, picture_of):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"{url}{READY}")
    page.set_content(f"<a href='{url}'>the panel</a>")  # a page of no address, so to the browser one of another site
    page.click("text=the panel")
    says = lambda text: page.wait_for_function(  # noqa: E731
        "text => document.querySelector('.refine-status')?.textContent.includes(text)", arg=text
    )
    looks = lambda: page.evaluate("[pixels('after'), document.querySelector('.refine-runs').innerText]")  # noqa: E731
    says("one plain pass")
    readout = number_of(page, "iterations")
    readout.fill("4")
    readout.press("Enter")
    page.click("button:text-is('Run')")
    says("run 1 finished")
    page.wait_for_function("isShown('run 1')")
    before = looks()

    def by_a_link():
        page.goto("about:blank")
        page.set_content(f"<a href='{url}'>again</a>")
        page.click("text=again")

    for again in (page.reload, by_a_link):
        again()
        says("run 1 finished")
        page.wait_for_function("isShown('run 1')")
        assert looks() == before and readout.input_value() == "4"
    picture_of(page, "app_loaded_again")
    page.click("button:text-is('Run')")  # and they go on
    says("run 2 finished")


def test_a_kernel_that_is_gone_is_told(page, serve):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"{url}{READY}")
    page.goto(url)
    page.wait_for_function("isShown('plain')")
    readout = number_of(page, "iterations")
    readout.fill("100000")
    readout.press("Enter")
    page.click("button:text-is('Run')")
    page.wait_for_function("document.querySelector('.refine-status')?.textContent.includes('level 2 of 3')")
    (kernel,) = (p for p in psutil.Process().children(recursive=True) if "ipykernel_launcher" in " ".join(p.cmdline()))
    kernel.kill()
    page.locator(".refine-viewer").get_by_text(re.compile("no answer from the kernel for [0-9]+ s")).wait_for()


def test_touch_paints(browser, serve):
    port = free_port()
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"http://127.0.0.1:{port}{READY}")
    page = browser.new_page(viewport={"width": 500, "height": 1200}, has_touch=True)
    page.set_default_timeout(SECONDS)
    page.add_init_script(LOOK)
    page.goto(f"http://127.0.0.1:{port}")
    page.wait_for_function("document.querySelector('img[data-name=hole]')?.naturalWidth > 0")
    before = page.evaluate("share('hole')")
    page.locator(".refine-painter").scroll_into_view_if_needed()
    picture = page.locator(".refine-painter").bounding_box()
    assert picture["width"] <= 500  # it fits a telephone
    page.touchscreen.tap(picture["x"] + 0.9 * picture["width"], picture["y"] + 0.9 * picture["height"])
    page.wait_for_function("before => share('hole') > before", arg=before)
    page.close()


def test_a_photo_of_more_than_10_mb_is_sent_whole(page, serve, tmp_path):
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (1900, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png", compress_level=0)
    assert (tmp_path / "large.png").stat().st_size > 11e6
    port = free_port()
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"http://127.0.0.1:{port}{READY}")
    page.goto(f"http://127.0.0.1:{port}")
    page.wait_for_selector("input[data-kind=photo]", state="attached")
    page.set_input_files("input[data-kind=photo]", tmp_path / "large.png")
    page.wait_for_function("document.querySelector('img[data-name=picture]').naturalWidth === 1024")
    assert page.evaluate("document.querySelector('img[data-name=picture]').naturalHeight") == 973


def test_any_address_but_loopback_asks_for_a_token(serve):
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "", "::", "192.168.1.2", "myhost")))
    assert "--token" not in options(LESSON, "127.0.0.1", 1)[0]
    port = free_port()
    arguments = [str(LESSON), "--address", "0.0.0.0", "--port", str(port)]
    answer = serve("refine_lib.widgets", *arguments, url=f"http://127.0.0.1:{port}").read().decode()
    assert "Paint a hole" not in answer and "token" in answer.lower()
