"""A real browser for the tests, servers of pages, and what a page shows as numbers."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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


@contextlib.contextmanager
def serving(folder):
    """Starts servers, waits until they answer, and ends them. Their log is looked through when the test is over."""
    servers = []

    def start(module, *arguments, url):
        with open(folder / "log", "w") as log:
            server = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=log, stderr=log, cwd=ROOT)
        servers.append(server)
        for _ in range(720):
            try:
                return urllib.request.urlopen(url, timeout=60)
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.25)
        raise TimeoutError((folder / "log").read_text())

    try:
        yield start
    finally:
        for server in servers:
            server.terminate()
            server.wait(SECONDS / 1000)
    log = (folder / "log").read_text().splitlines()
    bad = [i for i, line in enumerate(log) if re.search(r"\[E |ERROR|CRITICAL|Traceback", line)]
    bad = [i for i in bad if not re.search("received signal 15|restarted failed", log[i])]  # a test kills a kernel
    assert not bad, "\n".join(log[bad[0] : bad[0] + 60])


@contextlib.contextmanager
def watched_page(browser, **options):
    """A page that may have no error and ask no other server."""
    page = browser.new_page(**options)
    page.set_default_timeout(SECONDS)
    page.add_init_script(LOOK)
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    elsewhere = re.compile("https?://(?!127.0.0.1:)")
    page.on("request", lambda request: problems.append(request.url) if elsewhere.match(request.url) else None)
    try:
        yield page
    finally:
        page.close()
    assert not problems


@pytest.fixture
def serve(tmp_path):
    with serving(tmp_path) as start:
        yield start


@pytest.fixture
def page(browser, serve):  # the page is closed before its server ends
    with watched_page(browser, viewport={"width": 1120, "height": 1400}, accept_downloads=True) as page:
        yield page


@pytest.fixture
def picture_of(request):
    """Keeps a picture of a page or of a part of it, where ``--screenshots`` says."""
    folder = request.config.getoption("--screenshots")
    return lambda shown, name: folder and shown.screenshot(path=f"{folder}/{name}.png")


def drag(page, on, start, end):
    """Drags over an element, from one point to another, in shares of its width and height."""
    size = on.bounding_box()
    where = lambda x, y: {"x": x * size["width"], "y": y * size["height"]}  # noqa: E731
    on.hover(position=where(*start), force=True)
    page.mouse.down()
    for step in (0.5, 1):
        on.hover(position=where(*(a + step * (b - a) for a, b in zip(start, end, strict=True))), force=True)
    page.mouse.up()
