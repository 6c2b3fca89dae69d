"""Measures what refinement does for a network, on any pictures: ``python -m refine_lib.workshop.effect mini-lama --on simple``.

Prints a table in Markdown with a row for each network and each kind of pictures. A training script calls ``measure`` with the
network that it holds, ``as_model(network)``, and prints ``table([effect])``.
"""

import argparse
import copy
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tqdm.auto import tqdm

from refine_lib.checks import check_smallest_scale
from refine_lib.metrics import fraction, gain, interval, l1
from refine_lib.networks import load_network
from refine_lib.networks.split import split_network
from refine_lib.photos.pixels import to_image, to_pixels
from refine_lib.plots import house_style, made_with, show_picture
from refine_lib.plots.style import write_caption
from refine_lib.refine import check_settings, multiscale_inpaint
from refine_lib.scenes import random_scenes
from refine_lib.scenes.strokes import STROKES, stroke_masks
from refine_lib.workshop.other_scenes import GENERATORS, photos
from refine_lib.workshop.texture import grid_strength, sharpness

SETTINGS = {"smallest_scale": 64, "lr": 0.005, "n_iters": 15, "erosion": 15}
DRAWN = (*GENERATORS, "planes", "patterns", "leaves")
WAYS = ("enlarged", "plain", "refined")
TELEA_RADIUS = 3  # in pixels
COLUMNS = (
    "network",
    "pictures",
    "plain",
    "enlarged",
    "refined",
    "refined below plain",
    "below enlarged",
    "better than both",
    "sharp",
    "grid",
    "L1 at 64 px / Telea's",
)


@dataclass
class Effect:
    """What refinement made of a set of pictures. An error is the L1 in the hole, over all pictures together.

    Attributes:
        network, pictures: their names.
        pairs: for ``WAYS``, and for ``small`` and ``telea``, which are errors at the smallest level, of the network and of
            Telea's classical fill: the pairs (N, 2) of ``l1``.
        sharp: see ``sharpness``, of the refined pictures.
        grid, grid_of_truth: see ``grid_strength``, of the refined pictures and of the truth. The truth has no grid: its number
            shows how far chance takes it.
        kept: the first pictures, from a title to (K, 3, H, W).
        mask: their holes, (K, 1, H, W).
    """

    network: str
    pictures: str
    pairs: dict[str, torch.Tensor] = field(repr=False)
    sharp: float
    grid: float
    grid_of_truth: float
    kept: dict = field(repr=False)
    mask: torch.Tensor = field(repr=False)

    def __getattr__(self, way):
        """The error of a way by its name."""
        if way.startswith("_") or way not in self.pairs:
            raise AttributeError(way)
        return fraction(self.pairs[way]).item()

    @property
    def n(self):
        """The number of pictures."""
        return len(self.pairs["refined"])

    @property
    def below_plain(self):
        """The share by which the refined error is below the plain one, with its paired interval."""
        return gain(self.pairs["refined"], self.pairs["plain"])

    @property
    def below_enlarged(self):
        """The share by which the refined error is below the enlarged one, with its paired interval."""
        return gain(self.pairs["refined"], self.pairs["enlarged"])

    @property
    def better_than_both(self):
        """The share of pictures whose refined error is below the plain and the enlarged one, with its interval."""
        return interval(tuple(self.pairs[way] for way in ("refined", "plain", "enlarged")), _share_below_both)

    @property
    def beside_telea(self):
        """The network's error at the smallest level over that of Telea's fill, with its paired interval."""
        return interval((self.pairs["small"], self.pairs["telea"]), lambda a, b: fraction(a) / fraction(b))


def _share_below_both(refined, plain, enlarged):
    errors = [pairs[..., 0] for pairs in (refined, plain, enlarged)]
    return ((errors[0] < errors[1]) & (errors[0] < errors[2])).double().mean(-1)


def as_model(network):
    """A split network for ``measure``, of a generator that may be in the middle of its training.

    It holds a copy, because splitting a network freezes its weights and takes it out of training mode.
    """
    return split_network(copy.deepcopy(network))


def measure(model, pictures, masks, network="network", title="pictures", batch=4, keep=6, **settings):
    """Fills pictures in three ways, plain, enlarged and refined, and compares each with the truth.

    Args:
        model: a ``SplitNetwork``, from ``load_network`` or ``as_model``. The computation runs on its device.
        pictures: (N, 3, H, W) in [0, 1], float32.
        masks: (N, 1, H, W), 1 = hole.
        network, title: their names in the table.
        batch: how many pictures are filled at once.
        keep: how many of the first pictures are kept, to be drawn.
        settings: of ``multiscale_inpaint``, in place of those in ``SETTINGS``.

    Returns:
        An ``Effect``.

    Raises:
        ValueError: where there is no picture, or another number of masks.
    """
    if not 0 < len(pictures) == len(masks):
        raise ValueError(f"there are {len(pictures)} pictures and {len(masks)} masks; expected as many of both, at least one")
    pictures, masks, device = pictures.cpu(), masks.cpu(), next(model.parameters()).device
    filled, pairs = {way: [] for way in WAYS}, {"small": [], "telea": []}
    with tqdm(total=len(pictures), desc=f"{network}, {title}", leave=False) as bar:
        for truth, mask in zip(pictures.split(batch), masks.split(batch), strict=True):
            result = multiscale_inpaint(truth.to(device), mask.to(device), model, progress=False, **{**SETTINGS, **settings})
            for way, picture in zip(WAYS, (result.enlarged, result.plain, result.image), strict=True):
                filled[way].append(picture.cpu())
            level = result.levels[0]
            pairs["small"].append(l1(level.inpainted, level.image, level.mask))
            pairs["telea"].append(l1(fill_after_telea(level.image, level.mask), level.image, level.mask))
            bar.update(len(truth))

    filled = {way: torch.cat(batches) for way, batches in filled.items()}
    pairs = {way: torch.cat(batches) for way, batches in pairs.items()}
    kept = {"input": pictures, **filled, "truth": pictures}
    return Effect(
        network=network,
        pictures=title,
        pairs=pairs | {way: l1(picture, pictures, masks) for way, picture in filled.items()},
        sharp=sharpness(filled["refined"], pictures, masks),
        grid=grid_strength(filled["refined"], masks),
        grid_of_truth=grid_strength(pictures, masks),
        kept={name: picture[:keep] for name, picture in kept.items()},
        mask=masks[:keep],
    )


def fill_after_telea(image, mask):
    """Fills holes by the classical method of Telea (2004), OpenCV's, on 8 bits a channel.

    Shape: (B, 3, H, W) in [0, 1] and (B, 1, H, W), 1 = hole -> (B, 3, H, W).
    """
    import cv2  # with the extra "metrics": the library does without it

    pictures = [
        to_image(cv2.inpaint(to_pixels(one), np.uint8(to_pixels(hole) > 0), TELEA_RADIUS, cv2.INPAINT_TELEA))
        for one, hole in zip(image.split(1), mask.split(1), strict=True)
    ]
    return torch.cat(pictures).to(image)


def row(effect, intervals=False):
    """An ``Effect`` as a row of ``table``, on request with the intervals that it has."""
    compared = [effect.below_plain, effect.below_enlarged, effect.better_than_both, effect.beside_telea]
    digits = [".0%", ".0%", ".0%", ".2f"]
    *shares, telea = [
        f"{value:{form}}" + (f" [{low:{form}}, {high:{form}}]" if intervals else "")
        for (value, low, high), form in zip(compared, digits, strict=True)
    ]
    cells = [
        effect.network,
        f"{effect.n} {effect.pictures}",
        *(f"{error:.3f}" for error in (effect.plain, effect.enlarged, effect.refined)),
        *shares,
        *(f"{number:.2f}" for number in (effect.sharp, effect.grid)),
        telea,
    ]
    return f"| {' | '.join(cells)} |"


def table(effects, intervals=False):
    """Several ``Effect`` as a table in Markdown, and below it the grid of the truth, which is that of chance."""
    of_truth = {f"{effect.n} {effect.pictures}": f"{effect.grid_of_truth:.2f}" for effect in effects}
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * 2 + "|---:" * (len(COLUMNS) - 2) + "|"]
    lines += [row(effect, intervals) for effect in effects]
    return "\n".join([*lines, "", "grid of the truth: " + ", ".join(f"{grid} in {of}" for of, grid in of_truth.items())])


def strip(effect, caption=""):
    """Draws the pictures that an ``Effect`` kept: a column for each, a row for each way to fill.

    Returns:
        The figure.
    """
    n = len(effect.mask)
    height, width = effect.mask.shape[-2:]
    with house_style():
        inches = 1.7
        shape = (inches * n + 0.1, inches * height / width * len(effect.kept) + 0.5)
        figure, axes = plt.subplots(len(effect.kept), n, figsize=shape, layout="constrained", squeeze=False)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        for i, (way, pictures) in enumerate(effect.kept.items()):
            for j, ax in enumerate(axes[i]):
                show_picture(pictures[j : j + 1], effect.mask[j : j + 1] if i == 0 else None, ax=ax)
            axes[i, 0].set_title(way, loc="left")
        write_caption(figure, caption)
    return figure


def pictures_of(name, size, n, seed):
    """Pictures by their name on the command line: a generator's of ``DRAWN``, else those of a folder, at most n.

    Returns:
        float32 (B, 3, size, size) in [0, 1].

    Raises:
        ImportError: where the generator is not in this clone.
        OSError, ValueError: where the folder is none, or what it holds cannot be taken.
    """
    if name in GENERATORS:
        return GENERATORS[name](size, n, seed)
    if name == "planes":
        return random_scenes(size, n, seed)
    if name == "patterns":
        from refine_lib.workshop.patterns import random_patterns  # when asked for: it takes its time to draw

        return random_patterns(size, n, seed)
    if name == "leaves":
        from refine_lib.workshop.leaves import random_leaves

        return random_leaves(size, n, seed)
    if not Path(name).is_dir():
        raise NotADirectoryError(f"{name!r} is neither a folder of photos nor one of {', '.join(DRAWN)}")
    return photos(name, size)[:n]


def main():
    parser = argparse.ArgumentParser(description="Measure what refinement does for networks, on pictures of any kind.")
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help="a name, as mini-lama, or the path of weights")
    parser.add_argument("--on", nargs="+", default=["simple", "busy"], metavar="PICTURES",
                        help=f"{', '.join(DRAWN)}, or a folder of photos (default: simple busy)")  # fmt: skip
    parser.add_argument("--pictures", type=int, default=16, help="of each kind; of a folder at most (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="of the pictures, in pixels (default: %(default)s)")
    parser.add_argument("--masks", choices=STROKES, default="thick", help="kind of holes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5, help="of scenes and holes (default: %(default)s)")
    parser.add_argument("--smallest-scale", type=int, default=SETTINGS["smallest_scale"], help="(default: %(default)s)")
    parser.add_argument("--lr", type=float, default=SETTINGS["lr"], help="of z (default: %(default)s)")
    parser.add_argument("--n-iters", type=int, default=SETTINGS["n_iters"], help="at each level (default: %(default)s)")
    parser.add_argument("--erosion", type=int, default=SETTINGS["erosion"], help="in pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="pictures at once (default: %(default)s)")
    parser.add_argument("--intervals", action="store_true", help="of 95%% of bootstrap samples, in brackets")
    parser.add_argument("--figure", type=Path, help="a file for the first six pictures; with several rows, one file for each")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in SETTINGS}
    _check(parser, args, settings)

    models, pictures = {}, {}
    for name in args.networks:
        try:
            models[name] = load_network(name, args.device)
        except (OSError, RuntimeError, ValueError) as error:
            parser.error(f"argument NETWORK: {error}")
    for name in args.on:
        try:
            pictures[name] = pictures_of(name, args.size, args.pictures, args.seed)
        except (ImportError, OSError, ValueError) as error:
            parser.error(f"argument --on: {error}")

    effects, figures = [], []
    for title, truth in pictures.items():
        masks = stroke_masks(args.size, len(truth), args.seed, args.masks)
        for network, model in models.items():
            short = title if title in DRAWN else Path(title).resolve().name
            effects.append(measure(model, truth, masks, network, short, args.batch, **settings))
            if args.figure:
                caption = made_with(model, network=network, on=short, masks=args.masks, seed=args.seed, **settings)
                path = args.figure
                if len(pictures) * len(models) > 1:
                    which = (name.strip("./").replace("/", "-") for name in (network.removesuffix(".safetensors"), title))
                    path = path.with_stem("-".join([path.stem, *which]))
                figure = strip(effects[-1], caption)
                figure.savefig(path, dpi=180)
                plt.close(figure)
                figures.append(path)
    print(table(effects, args.intervals))
    print(made_with(model, size=args.size, masks=args.masks, seed=args.seed, **settings))
    for path in figures:
        print(f"wrote {path}")


def _check(parser, args, settings):
    """Ends with a message where an argument is not as it should be, before any work is done."""
    for name, smallest in (("pictures", 1), ("seed", 0), ("batch", 1)):
        if getattr(args, name) < smallest:
            parser.error(f"argument --{name}: {getattr(args, name)}; expected {smallest} or more")
    if args.size < 2 * args.smallest_scale:
        parser.error(f"argument --size: {args.size}; expected at least twice --smallest-scale, {args.smallest_scale}")
    if args.figure and not args.figure.parent.is_dir():
        parser.error(f"argument --figure: there is no folder {str(args.figure.parent)!r} to write {args.figure.name} into")
    if args.figure and args.figure.suffix.lower().lstrip(".") not in FigureCanvasAgg.filetypes:
        parser.error(f"argument --figure: {args.figure.name} does not end as a picture does, for instance .png")
    try:
        check_smallest_scale(args.smallest_scale)
        check_settings(args.lr, args.n_iters, args.erosion, "paper", None)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
