"""Measures what refinement makes of guides: ``python -m refine_lib.workshop.guides``.

Prints a table in Markdown of the L1 in the hole. A row is a small picture, filled by the network, by Telea's method or with the
truth. It is enlarged (bicubic), or it is the guide of a refinement.

By default it printed, enlarged and refined, 0.091 and 0.067 for the plain prediction, 0.187 and 0.082 for Telea's fill, 0.030
and 0.047 for the truth. 15 px of erosion leave much of a hole of 64 px unmatched: a very good guide is followed in part.
"""

import argparse

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from refine_lib.masks import paste
from refine_lib.metrics import fraction, l1
from refine_lib.networks import load_network
from refine_lib.plots import made_with
from refine_lib.pyramid import build_pyramid
from refine_lib.refine import multiscale_inpaint
from refine_lib.scenes import random_scenes
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.effect import SETTINGS, fill_after_telea


def measure(model, truth, mask, **settings):
    """The L1 of each picture: a dictionary from a guide's name to (of the guide enlarged, of what was refined with it).

    Shape: truth (B, 3, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole.
    """
    small = build_pyramid(truth, mask, settings["smallest_scale"])[0]
    with torch.no_grad():
        plain = paste(model(small.image, small.mask), small.image, small.mask).clamp(0, 1)
    found = {}
    for name, guide in {"plain": plain, "Telea": fill_after_telea(small.image, small.mask), "truth": small.image}.items():
        enlarged = F.interpolate(guide, truth.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)
        refined = multiscale_inpaint(truth, mask, model, **settings, progress=False, guide=guide).image
        found[name] = l1(enlarged, truth, mask), l1(refined, truth, mask)
    return found


def main():
    parser = argparse.ArgumentParser(description="Measure what refinement makes of guides.")
    parser.add_argument("network", nargs="?", default="mini-lama", help="(default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="of the pictures, in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5, help="of scenes and holes (default: %(default)s)")
    for name, value in SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="(default: %(default)s)")
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in SETTINGS}
    model = load_network(args.network, "cpu")
    pictures = random_scenes(args.size, args.pictures, args.seed), stroke_masks(args.size, args.pictures, args.seed, "thick")
    batches = zip(*(t.split(4) for t in pictures), strict=True)
    found = [measure(model, *batch, **settings) for batch in tqdm(batches, total=-(-args.pictures // 4), leave=False)]
    print("| guide | enlarged | refined with it |\n|---|---:|---:|")
    for name in found[0]:
        enlarged, refined = (fraction(torch.cat([batch[name][way] for batch in found])).item() for way in (0, 1))
        print(f"| small, {name} | {enlarged:.3f} | {refined:.3f} |")
    print(made_with(model, network=args.network, pictures=args.pictures, size=args.size, seed=args.seed, **settings))


if __name__ == "__main__":
    main()
