"""What a small hole in a large photo costs, whole and in a window: ``python -m refine_lib.workshop.small_holes``.

Prints a table in Markdown. Each run is a process of its own; its memory is the most that it held beyond what it held before.
"""

import argparse
import subprocess
import sys
import time

import psutil
from PIL import Image, ImageDraw

from refine_lib.device import describe
from refine_lib.fast.process import peak_memory, return_free_memory
from refine_lib.networks.split import split_network
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.workshop.costs import NETWORKS, generator_of

WAYS = "never", "auto"  # windows


def cost(network: str, width: int, height: int, side: int, windows: str, n_iters: int) -> tuple[float, float, float]:
    """CPU seconds, gigabytes and seconds of a photo with a round hole in its middle."""
    photo, mask = Image.radial_gradient("L").resize((width, height)).convert("RGB"), Image.new("L", (width, height))
    left, top = (width - side) // 2, (height - side) // 2
    ImageDraw.Draw(mask).ellipse((left, top, left + side - 1, top + side - 1), fill=255)
    model = split_network(generator_of(network).eval())
    settings = dict(smallest_scale=NETWORKS[network], lr=0.005, n_iters=n_iters, windows=windows, progress=False)
    return_free_memory()
    held, cpu, started = psutil.Process().memory_info().rss, time.process_time(), time.perf_counter()
    inpaint_photo(photo, mask, None, model, **settings)
    return time.process_time() - cpu, (peak_memory("cpu") - held) / 1e9, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description="What a small hole in a large photo costs, whole and in a window.")
    parser.add_argument("--network", choices=NETWORKS, default="mini-lama", help="(default: %(default)s)")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[6, 12], help="(default: 6 12)")
    parser.add_argument("--holes", type=int, nargs="+", default=[100, 300, 600], help="in pixels (default: 100 300 600)")
    parser.add_argument("--n-iters", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--one", nargs=4, metavar=("WIDTH", "HEIGHT", "SIDE", "WINDOWS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(*cost(args.network, *map(int, args.one[:3]), args.one[3], args.n_iters))
        return
    print("| MP | hole, px | whole: CPU s, GB | window: CPU s, GB | time | memory |\n|---:|---:|---|---|---:|---:|")
    for megapixels in args.megapixels:
        height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
        for side in args.holes:
            line = [sys.executable, "-W", "ignore", "-m", __spec__.name, "--network", args.network, "--n-iters", args.n_iters]
            runs = [[*line, "--one", height * 4 // 3, height, side, windows] for windows in WAYS]
            told = [subprocess.run(list(map(str, run)), capture_output=True, text=True, check=True).stdout for run in runs]
            whole, window = ([float(number) for number in words.split()] for words in told)
            cells = [f"{megapixels:g}", f"{side}", *(f"{cpu:.1f}, {memory:.2f}" for cpu, memory, _ in (whole, window))]
            ratios = [f"1/{a / b:.1f}" for a, b in zip(whole[:2], window[:2], strict=True)]
            print("|", " | ".join([*cells, *ratios]), "|", flush=True)
    print(f"{args.network}, n_iters {args.n_iters}, {describe('cpu')}")


if __name__ == "__main__":
    main()
