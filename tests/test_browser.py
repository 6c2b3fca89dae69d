"""The panel and the painter in a real browser: in JupyterLab, and on the page that ``make app`` serves.

``--screenshots FOLDER`` keeps pictures of the page there: app.png as the README shows it, and others on the way.
"""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import psutil
import pytest
from conftest import ROOT

from refine_lib.widgets.__main__ import is_loopback, only_the_app, options

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LESSON = ROOT / "notebooks" / "05_tune_it.ipynb"
SECONDS = 180_000  # ms: the longest that anything may take, on a machine that is busy with other things

# What the page shows, as numbers: pixels of a picture, the last loss of the latest run.
LOOK = """
    window.pixels = (name) => {
      const picture = document.querySelector(`img[data-name=${name}]`);
      if (!picture?.complete || !picture.naturalWidth) return [];
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
      const pen = canvas.getContext("2d");
      pen.drawImage(picture, 0, 0);
      return [...pen.getImageData(0, 0, canvas.width, canvas.height).data];
    };
    window.isShown = (name) =>  // the picture of that name is what is seen, and no other is on its way
      document.querySelector(".refine-below span:last-child")?.textContent === name &&
      [...document.querySelectorAll("img[data-name]")].every((img) => img.complete && img.ariaBusy !== "true");
    window.difference = (a, b) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
    window.share = (name) => pixels(name).filter((value, i) => i % 4 === 3 && value > 0).length * 4 / pixels(name).length;
    window.cell = (column) => {
      const names = [...document.querySelectorAll(".refine-runs th")].map((head) => head.textContent);
      const row = document.querySelector(".refine-runs tbody tr");
      return row?.children[names.indexOf(column)]?.textContent ?? "";
    };
    window.seen = [];
    window.watch = setInterval(() => {
      const picture = document.querySelector("img[data-name=after]");
      if (picture?.complete) seen.push([Number(cell("last loss")), picture.src, picture.naturalWidth]);
    }, 20);
"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def serve(tmp_path):
    """Starts a server and waits until it answers. Its log is looked through when the test is over."""
    servers = []

    def start(module, *arguments, url):
        with open(tmp_path / "log", "w") as log:
            server = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=log, stderr=log, cwd=ROOT)
        servers.append(server)
        for _ in range(720):
            try:
                return urllib.request.urlopen(url, timeout=60)
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.25)
        raise TimeoutError((tmp_path / "log").read_text())

    yield start
    for server in servers:
        server.terminate()
        server.wait(SECONDS / 1000)
    bad = [line for line in (tmp_path / "log").read_text().splitlines() if re.search(r"\[E |ERROR|CRITICAL|Traceback", line)]
    assert not [line for line in bad if not re.search("received signal 15|restarted failed", line)]  # a test kills a kernel


@pytest.fixture
def page(browser, serve):  # the page is closed before its server ends
    page = browser.new_page(viewport={"width": 1120, "height": 1400}, accept_downloads=True)
    page.set_default_timeout(SECONDS)
    page.add_init_script(LOOK)
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    elsewhere = re.compile("https?://(?!127.0.0.1:)")
    page.on("request", lambda request: problems.append(request.url) if elsewhere.match(request.url) else None)
    yield page
    page.close()
    assert not problems


@pytest.fixture
def picture_of(request):
    """Keeps a picture of a page or of a part of it, where ``--screenshots`` says."""
    folder = request.config.getoption("--screenshots")
    return lambda shown, name: folder and shown.screenshot(path=f"{folder}/{name}.png")


def test_in_jupyterlab(page, serve, tmp_path, picture_of):
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


def test_as_a_page_of_its_own(page, serve, picture_of):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    answer = serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=url).read().decode()
    assert "Paint a hole" in answer and "import" not in re.sub("<script.*?</script>", "", answer, flags=re.DOTALL)
    for path, host in (("/voila/files/learning_rates.png", None), ("/", "elsewhere.example")):
        request = urllib.request.Request(url + path, headers={"Host": host} if host else {})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
    page.goto(url)
    use_the_panel(page, picture_of)


def drag(page, on, start, end):
    """Drags over an element, from one point to another, in shares of its width and height."""
    size = on.bounding_box()
    where = lambda x, y: {"x": x * size["width"], "y": y * size["height"]}  # noqa: E731
    on.hover(position=where(*start), force=True)
    page.mouse.down()
    for step in (0.5, 1):
        on.hover(position=where(*(a + step * (b - a) for a, b in zip(start, end, strict=True))), force=True)
    page.mouse.up()


def number_of(page, setting):
    """The box with the number of a setting."""
    row = page.locator(".refine-tuner .widget-hbox", has=page.locator(f".widget-hslider:has-text('{setting}')"))
    return row.last.locator("input[type=number]")


def use_the_panel(page, picture_of):
    painter, panel = page.locator(".refine-mask-painter"), page.locator(".refine-tuner")
    button = lambda name, inside=panel: inside.locator(f"button:text-is('{name}')")  # noqa: E731
    says = lambda text: page.wait_for_function(  # noqa: E731
        "text => document.querySelector('.refine-status')?.textContent.includes(text)", arg=text, polling=50
    )

    # At rest: the plain pass, and an estimate.
    says("one plain pass")
    page.wait_for_function("isShown('plain')")
    assert "a run takes about" in panel.inner_text()
    picture_of(panel, "app_at_rest")
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
    picture_of(panel, "app_running")
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
    picture_of(panel, "app_finished")

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
    picture_of(panel, "app")

    # The box, dragged to the picture's corner, and the file that the browser saves.
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
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"{url}/voila/static/voila.js")
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
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"{url}/voila/static/voila.js")
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
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"http://127.0.0.1:{port}")
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
    serve("refine_lib.widgets", str(LESSON), "--port", str(port), url=f"http://127.0.0.1:{port}")
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
