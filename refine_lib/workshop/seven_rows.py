"""What each method of the paper's Table 1 costs, with random weights: ``python -m refine_lib.workshop.seven_rows``.

Writes networks of random weights into a cache of their own, where ``load_network`` finds them by the published names, and some
of scikit-image's photos. Each method is a process of its own. All write into one folder, so that the same command goes on where
it was stopped. Prints a table in Markdown. The pictures are noise: the way to the table is tried, not what the table says.
"""

import argparse
import math
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from refine_lib.device import describe
from refine_lib.networks import load_network
from refine_lib.networks.registry import ARCHITECTURES, save_generator
from refine_lib.photos.pixels import BUILT_IN, load_photo, save_photo
from refine_lib.pyramid import resize
from refine_lib.scenes import random_scenes
from refine_lib.scenes.strokes import stroke_masks

PLAIN = ("aot-gan", "latent-diffusion", "mat", "zits", "lama-fourier", "big-lama")
ARGUMENTS = {"lama-fourier": {"n_blocks": 9}}


def prepare(folder: Path, size: int) -> None:
    """Writes what is not there yet of the networks and the photos. These are enlarged where a side is less than ``size``."""
    for name in PLAIN:
        path = folder / "cache" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = next(kind for kind in ARCHITECTURES if name in kind.weights)
        if not path.is_file():
            save_generator(kind.network(**ARGUMENTS.get(name, {})), path)
    (folder / f"photos{size}").mkdir(exist_ok=True)
    for name in BUILT_IN:
        if not (path := folder / f"photos{size}" / f"{name}.png").is_file():
            photo = load_photo(name)
            larger = max(1.0, size / min(photo.shape[-2:]))
            save_photo(resize(photo, [math.ceil(side * larger) for side in photo.shape[-2:]]).clamp(0, 1), path)


def one_pass(folder: Path, name: str, size: int) -> float:
    """CPU seconds of a network's second plain pass, in one thread; of latent diffusion 50 passes, by what one more takes."""
    torch.set_num_threads(1)
    model = load_network(folder / "cache" / f"{name}.safetensors", "cpu")
    image, mask = random_scenes(size, seed=1), stroke_masks(size, seed=1)
    counts = (1, 2) if hasattr(model, "n_steps") else (None, None)

    def seconds(n_steps):
        options = {"n_steps": n_steps} if n_steps else {}
        started = time.process_time()
        with torch.no_grad():
            model(image, mask, **options)
        return time.process_time() - started

    seconds(counts[0])  # what libraries do once
    first, second = map(seconds, counts)
    return first + 49 * (second - first) if counts[0] else second


def main():
    parser = argparse.ArgumentParser(description="What the methods of Table 1 cost, with random weights.")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/seven_rows"), help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="of the pictures, in pixels (default: %(default)s)")
    parser.add_argument("--mask", default="medium", help="a kind of hole (default: %(default)s)")
    parser.add_argument("--n-steps", type=int, default=10, help="of latent-diffusion (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=4, help="pictures (default: %(default)s)")
    parser.add_argument("--one-pass", action="store_true", help="print the CPU seconds of a plain pass, and nothing else")
    args = parser.parse_args()
    first = multiprocessing.get_context("spawn").Process(target=prepare, args=(args.output, args.size))
    first.start()  # a process that is started begins with its parent's peak of memory, so this one stays small
    first.join()
    if args.one_pass:
        for name in PLAIN:
            print(f"| {name} | {one_pass(args.output, name, args.size):.1f} |", flush=True)
        return
    steps = {"latent-diffusion": f":n_steps={args.n_steps}"}
    methods = [*(f"plain:{name}{steps.get(name, '')}" for name in PLAIN), "refined:big-lama"]
    line = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "refine_lib.evaluate",
        args.output / f"photos{args.size}",
        "-o",
        args.output / f"results{args.size}",
    ]
    line += ["--masks", args.mask, "--size", args.size, "--limit", args.limit, "--features", "scenes", "--device", "cpu"]
    environment = os.environ | {"REFINE_CACHE": str(args.output / "cache")}
    print("| method | s, with loading | most memory, GB |\n|---|---:|---:|")
    for method in methods:
        started = time.perf_counter()
        run = subprocess.Popen([*map(str, line), "--methods", method], env=environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(run.pid, 0)
        if status:
            sys.exit(f"{method} ended with {os.waitstatus_to_exitcode(status)}")
        print(f"| {method} | {time.perf_counter() - started:.0f} | {used.ru_maxrss / 1e6:.2f} |", flush=True)
    subprocess.run([*map(str, line), "--methods", *methods], env=environment, check=True)
    print(f"{args.limit} pictures of {args.size} px, {describe('cpu')}")


if __name__ == "__main__":
    main()
