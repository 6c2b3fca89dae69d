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

from refine_lib.device import describe
from refine_lib.networks.registry import ARCHITECTURES, save_generator
from refine_lib.photos.pixels import BUILT_IN, load_photo, save_photo
from refine_lib.pyramid import resize

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


def main():
    parser = argparse.ArgumentParser(description="What the methods of Table 1 cost, with random weights.")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/seven_rows"), help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="of the pictures, in pixels (default: %(default)s)")
    parser.add_argument("--mask", default="medium", help="a kind of hole (default: %(default)s)")
    parser.add_argument("--n-steps", type=int, default=10, help="of latent-diffusion (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=4, help="pictures (default: %(default)s)")
    args = parser.parse_args()
    first = multiprocessing.get_context("spawn").Process(target=prepare, args=(args.output, args.size))
    first.start()  # a process that is started begins with its parent's peak of memory, so this one stays small
    first.join()
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
