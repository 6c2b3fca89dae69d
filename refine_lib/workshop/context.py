"""Measures what a window must show around a small hole: ``python -m refine_lib.workshop.context``.

Prints a table in Markdown. A row is a size of hole; a number is the L1 in the hole, filled in a window, over that of the whole
picture's run, both averaged over the same scenes. The last columns are what each takes, in seconds.

On two CPU cores with seed 21, at the context of 0.5 that is the default: 0.94 and 0.96 for holes of 24 and 48 px. For such
small holes this is three quarters of ``smallest_scale`` to each side (``CONTEXT_SHARE`` of the windows). With half of it the
numbers are the same, but the window of a small hole has one level, and nothing is refined. With the whole of it they are 0.96
and 0.97.
"""

import argparse

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from refine_lib.networks import load_network
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.photos.pixels import to_pixels
from refine_lib.plots import made_with
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.effect import pictures_of

KINDS = ("planes", "simple", "busy")
CONTEXTS = (0.25, 0.5, 1.0, 2.0)
EDGE_PX = 8  # that a hole stays away from the picture's border


def measure(model, pictures, side, seed, contexts=CONTEXTS):
    """Fills a small hole at a random place of each picture, whole and in windows.

    Args:
        pictures: (N, 3, H, W) in [0, 1].
        side: of the square in pixels that a stroke is drawn in.
        seed: of the strokes and places.

    Returns:
        The L1 in the hole and the seconds, each (N, 1 + len(contexts)); the whole picture comes first.
    """
    places, rows = np.random.default_rng(seed), []
    for picture, stroke in zip(pictures.split(1), stroke_masks(side, len(pictures), seed), strict=True):
        truth = to_pixels(picture)
        hole = np.zeros(truth.shape[:2], bool)
        top, left = (places.integers(EDGE_PX, length - side - EDGE_PX) for length in hole.shape)
        hole[top : top + side, left : left + side] = stroke[0].numpy() > 0
        runs = [{"windows": "never"}, *({"windows": "always", "context": context} for context in contexts)]
        done = [
            inpaint_photo(Image.fromarray(truth), Image.fromarray(hole), None, model, smallest_scale=64, lr=0.005,
                          progress=False, **run) for run in runs
        ]  # fmt: skip
        errors = [np.abs(np.asarray(d.image)[hole] - truth[hole].astype(float)).mean() / 255 for d in done]
        rows.append([errors, [d.seconds for d in done]])
    return torch.tensor(rows, dtype=torch.float64).unbind(1)


def main():
    parser = argparse.ArgumentParser(description="Measure what a window must show around a small hole.")
    parser.add_argument("--network", default="mini-lama", help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="of the pictures, in pixels (default: %(default)s)")
    parser.add_argument("--holes", type=int, nargs="+", default=[24, 48, 96], help="sides, in pixels (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=12, help=f"of each of {', '.join(KINDS)} (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=21, help="(default: %(default)s)")
    args = parser.parse_args()
    model = load_network(args.network, "cpu")
    pictures = torch.cat([pictures_of(kind, args.size, args.pictures, args.seed) for kind in KINDS])
    print(f"| hole, px | {' | '.join(f'context {c:g}' for c in CONTEXTS)} | whole, s | windows, s |")
    print("|---" + "|---:" * (len(CONTEXTS) + 2) + "|")
    total = 0
    for side in tqdm(args.holes, leave=False):
        errors, seconds = (t.mean(dim=0) for t in measure(model, pictures, side, args.seed))
        total = total + errors
        ratios = [f"{ratio:.3f}" for ratio in (errors / errors[0])[1:].tolist()]
        first, *others = (f"{s:.2f}" for s in seconds.tolist())
        print(f"| {side} | {' | '.join(ratios)} | {first} | {', '.join(others)} |", flush=True)
    print(f"| all | {' | '.join(f'{ratio:.3f}' for ratio in (total / total[0])[1:].tolist())} | | |")
    print(made_with(model, size=args.size, pictures=len(pictures), seed=args.seed, smallest_scale=64, lr=0.005, n_iters=15))


if __name__ == "__main__":
    main()
