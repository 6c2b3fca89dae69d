"""How long a page lets its user wait, in chromium: ``make panel-times``, on a machine that does nothing else.

Medians of some visits: seconds until there is something to see, and until the panel is there; until a click on Fill shows that
it works, and until the first picture of a large photo with a small hole is seen. Then what was estimated beside what it took.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from browser import CHROMIUM, LOOK, SECONDS, free_port, serving
from conftest import ROOT
from PIL import Image
from playwright.sync_api import sync_playwright

LESSON = ROOT / "notebooks" / "05_tune_it.ipynb"
SAYS = "text => document.querySelector('.refine-status')?.textContent.includes(text)"
# Milliseconds from a click on Fill until something says that it is being done, and until a picture of the run is shown.
WATCH = """() => new Promise((done) => {
  const [begin, found] = [performance.now(), {}];
  [...document.querySelectorAll("button")].find((one) => one.textContent.trim() === "Fill this hole").click();
  const look = () => {
    const text = (of) => document.querySelector(of).textContent;
    if (/Handing over|Filling/.test(text(".refine-mask-painter"))) found.shown ??= performance.now() - begin;
    const isDrawn = document.querySelector("img[data-name=after_zoom]").ariaBusy !== "true";
    if (isDrawn && /^run/.test(text(".refine-below span:last-child")))
      found.picture ??= performance.now() - begin;
    if (found.picture && found.shown) done(found);
    else requestAnimationFrame(look);
  };
  look();
})"""


def photo(folder, width, height):
    """A photo's file of smooth noise."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 50, width // 50, 3), np.uint8)
    path = Path(folder) / f"{width}x{height}.jpg"
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def paint(page, across, down=0):
    """A stroke about the middle of the picture, so many pixels of the page long; with ``down`` a rectangle, so many tall."""
    page.get_by_role("button", name="rectangle" if down else "paint", exact=True).click()
    frame = page.locator(".refine-painter").bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(x - across / 2, y - down / 2)
    page.mouse.down()
    page.mouse.move(x + across / 2, y + down / 2)
    page.mouse.up()
    page.wait_for_function("share('hole') > 0 && ![...document.querySelectorAll('img')].some((one) => one.ariaBusy === 'true')")


def opened(page, path, n_runs):
    page.set_input_files("input[data-kind=photo]", path)
    page.wait_for_function("share('hole') === 0")
    page.wait_for_function("n => document.querySelectorAll('.refine-runs tbody tr').length <= n", arg=n_runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visits", type=int, default=5, help="default: %(default)s")
    visits = parser.parse_args().visits
    seen, there, shown, first = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as serve, sync_playwright() as playwright:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        serve("refine_lib.widgets", str(LESSON), "--port", str(port), "--keep", "2", url=f"{url}/voila/static/voila.js")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        large = photo(folder, 4000, 3000)
        for _ in range(visits):
            page = browser.new_context(viewport={"width": 1280, "height": 1400}).new_page()
            page.set_default_timeout(SECONDS)
            page.add_init_script(LOOK)
            begin = time.perf_counter()
            page.goto(url, wait_until="commit")
            page.get_by_text("The panel opens as soon as").wait_for()
            seen.append(time.perf_counter() - begin)
            page.wait_for_function(SAYS, arg="one plain pass")
            there.append(time.perf_counter() - begin)
            opened(page, large, 1)
            paint(page, 20)
            found = page.evaluate(WATCH)
            shown.append(found["shown"] / 1000)
            first.append(found["picture"] / 1000)
            page.wait_for_function(SAYS, arg="finished")
            page.context.close()
            time.sleep(4)  # or its kernel would end beside the next visit
        for words, seconds in [
            ("something is seen", seen),
            ("the panel is there", there),
            ("Fill shows that it works", shown),
            ("12 MP, a small hole: the first picture", first),
        ]:
            print(f"{words}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})", flush=True)
        for side in (256, 512, 1024):
            page = browser.new_context(viewport={"width": 1280, "height": 1400}).new_page()
            page.set_default_timeout(SECONDS)
            page.add_init_script(LOOK)
            page.goto(url)
            page.wait_for_function(SAYS, arg="one plain pass")
            opened(page, photo(folder, side, side), 1)
            paint(page, 150, 150)
            page.wait_for_timeout(500)
            page.evaluate(WATCH)
            left = page.wait_for_function(
                "(/about (.*) left/.exec(document.querySelector('.refine-status').textContent) ?? [])[1]"
            ).json_value()
            page.wait_for_function(SAYS, arg="finished")
            print(f"{side} px: {left} left was said first; {page.locator('.refine-status').inner_text()}", flush=True)
            page.context.close()
            time.sleep(4)
        browser.close()


if __name__ == "__main__":
    main()
