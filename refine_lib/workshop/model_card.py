"""Measures a network on unseen pictures: ``python -m refine_lib.workshop.model_card``. Prints tables in Markdown.

Pictures at several times the training size are filled in four ways: classically (biharmonic equation, scikit-image), with the
smallest level enlarged, in one plain pass, and refined. The smallest level itself is measured too, at the training size.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from refine_lib.checks import LOSSES
from refine_lib.evaluate.methods import biharmonic
from refine_lib.metrics import MEASURES, gain, interval, lead
from refine_lib.networks import load_network
from refine_lib.photos.pixels import BUILT_IN, load_photo
from refine_lib.plots import compare_rows, made_with
from refine_lib.refine import multiscale_inpaint
from refine_lib.scenes import Scenes
from refine_lib.scenes.strokes import STROKES, stroke_masks

WAYS = ("biharmonic", "enlarged", "plain", "refined")
SMALL_WAYS = ("biharmonic, small", "network, small")


@dataclass
class Measured:
    """What a set of pictures gave: for each way to fill and each measure, the pairs (N, 2) of ``refine_lib.metrics``.

    ``kept`` are a few of the batches themselves, as (truth, mask, Result).
    """

    title: str
    pairs: dict = field(default_factory=dict)
    kept: list = field(default_factory=list)

    def add(self, way, filled, truth, mask):
        for name, measure in MEASURES.items():
            self.pairs.setdefault((way, name), []).append(measure(filled, truth, mask))

    def of(self, way, name):
        return torch.cat(self.pairs[way, name])

    def cells(self, way):
        """Each measure of a way with its 95% interval, in words."""
        return ["{:.3f} [{:.3f}, {:.3f}]".format(*interval(self.of(way, name))) for name in MEASURES]

    def comparisons(self):
        """The sentences that a network is judged by, each with its paired 95% interval."""
        by = {
            "refined: L1 below plain by": gain(self.of("refined", "L1"), self.of("plain", "L1")),
            "refined: L1 below enlarged by": gain(self.of("refined", "L1"), self.of("enlarged", "L1")),
            "refined: SSIM closer to 1 than plain by": lead(self.of("refined", "SSIM"), self.of("plain", "SSIM")),
            "refined: gradient energy closer to 1 than enlarged by": lead(
                self.of("refined", "gradient energy"), self.of("enlarged", "gradient energy")
            ),
            "network at the smallest level: L1 below biharmonic by": gain(
                self.of("network, small", "L1"), self.of("biharmonic, small", "L1")
            ),
        }
        as_share = "{:.1%} [{:.1%}, {:.1%}]"
        return [f"{what} {(as_share if 'L1' in what else '{:.3f} [{:.3f}, {:.3f}]').format(*v)}" for what, v in by.items()]

    def __str__(self):
        n = len(self.of("refined", "L1"))
        lines = [f"{self.title}, {n} picture{'s' if n > 1 else ''}; in brackets 95% of bootstrap samples", ""]
        lines += ["| way | " + " | ".join(MEASURES) + " |", "|---|" + "---|" * len(MEASURES)]
        for way in SMALL_WAYS + WAYS:
            lines.append(f"| {way} | " + " | ".join(self.cells(way)) + " |")
        return "\n".join([*lines, "", *(f"- {sentence}" for sentence in self.comparisons())])


def measure(title, pictures, model, keep=0, **settings):
    """Fills pictures in every way and measures each.

    Args:
        title: of the table.
        pictures: yields (truth, mask) batches.
        model: a ``SplitNetwork``.
        keep: how many of the first batches are kept, to be drawn.
        settings: of ``multiscale_inpaint``.
    """
    measured = Measured(title)
    for truth, mask in pictures:
        result = multiscale_inpaint(truth, mask, model, progress=False, **settings)
        small = result.levels[0]
        # The truth at the training size is the pyramid's own: the picture that the network was shown there.
        for way, filled in zip(SMALL_WAYS, (biharmonic(small.image, small.mask), small.inpainted), strict=True):
            measured.add(way, filled, small.image, small.mask)
        for way, filled in zip(WAYS, (biharmonic(truth, mask), result.enlarged, result.plain, result.image), strict=True):
            measured.add(way, filled, truth, mask)
        if len(measured.kept) < keep:
            measured.kept.append((truth, mask, result))
    return measured


COMPARED = {  # the first is the paper's, which the others are compared with
    "Adam, 15 updates, lr 0.002": dict(optimizer="adam", n_iters=15, lr=0.002),
    "Adam, 8 updates, lr 0.005": dict(optimizer="adam", n_iters=8, lr=0.005),
    "Adam, 5 updates, lr 0.01": dict(optimizer="adam", n_iters=5, lr=0.01),
    "Polyak, 5 updates": dict(optimizer="polyak", n_iters=5),
    "Polyak, 3 updates": dict(optimizer="polyak", n_iters=3),
}
SHARED = ("smallest_scale", "erosion", "loss")  # settings that all optimizers have alike


def refined_by(ways, pictures, model, **settings):
    """Yields (way, truth, mask, ``Result``) for each picture and each way to move z, one picture at a time: each has a loss.

    Args:
        ways: settings of ``multiscale_inpaint`` by name.
        pictures, model: as in ``measure``.
        settings: that all ways have alike.
    """
    for truth, mask in pictures:
        for one_truth, one_mask in zip(truth.split(1), mask.split(1), strict=True):
            for way, chosen in ways.items():
                yield (
                    way,
                    one_truth,
                    one_mask,
                    multiscale_inpaint(one_truth, one_mask, model, progress=False, **settings, **chosen),
                )


def last_losses(result):
    """The last loss of each refined level of a ``Result``; NaN where there was nothing to match."""
    return [level[-1] if level else torch.nan for level in result.losses]


def compare_optimizers(title, pictures, model, **settings):
    """Refines pictures with each optimizer of z, and says how far the loss fell and what became of the picture.

    Args:
        title, pictures, model: as in ``measure``.
        settings: of ``multiscale_inpaint``, but for the optimizer's.

    Returns:
        A table in Markdown, and a sentence for each optimizer with its paired 95% interval beside the first.
    """
    measured, losses = Measured(title), {way: [] for way in COMPARED}
    for way, truth, mask, result in refined_by(COMPARED, pictures, model, **settings):
        measured.add(way, result.image, truth, mask)
        losses[way].append(last_losses(result))
    first = next(iter(COMPARED))
    n_levels = len(losses[first][0])
    levels = [f"loss, level {level}" for level in range(2, n_levels + 2)]
    lines = [f"{title}, {len(losses[first])} pictures; in brackets 95% of bootstrap samples", ""]
    lines += ["| optimizer | " + " | ".join([*levels, *MEASURES]) + " |", "|---|" + "---|" * (n_levels + len(MEASURES))]
    for way in COMPARED:
        cells = [f"{loss:.4f}" for loss in torch.tensor(losses[way]).nanmean(dim=0).tolist()]
        cells += measured.cells(way)
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    beside = {way: gain(measured.of(way, "L1"), measured.of(first, "L1")) for way in list(COMPARED)[1:]}
    lines += ["", *(f"- {way}: L1 below {first} by {v[0]:.1%} [{v[1]:.1%}, {v[2]:.1%}]" for way, v in beside.items())]
    return "\n".join(lines)


def scenes(n, size, kind, seed, device, batch=4):
    """Yields n drawn scenes with holes of one kind, in batches, with the time left."""
    drawn, masks = Scenes.random(n, seed), stroke_masks(size, n, seed, kind)
    for first in tqdm(range(0, n, batch), desc=f"{kind} holes, {size} px"):
        these = slice(first, first + batch)
        yield drawn[these].draw(size, device), masks[these].to(device)


def photos(n_masks, kind, seed, device):
    """Yields scikit-image's photos at their own size, each with several holes of one kind.

    An interval over them speaks of other holes in the same few photos, not of other photos.
    """
    names = [name for name in BUILT_IN for _ in range(n_masks)]
    for i, name in enumerate(tqdm(names, desc=f"{kind} holes, photos")):
        photo = load_photo(name, device)
        yield photo, stroke_masks(tuple(photo.shape[-2:]), 1, seed + i, kind, device)


def figure_of(batches, model, **settings):
    """Draws batches of (truth, mask, Result), all of one size, in the order of the paper's Figure 3.

    Returns:
        The figure.
    """
    rows = [(truth, result.enlarged, result.plain, result.image, truth, mask) for truth, mask, result in batches]
    *pictures, mask = (torch.cat(column) for column in zip(*rows, strict=True))
    truth, _, result = batches[0]
    small, large = (f"filled at {image.shape[-1]} px" for image in (result.levels[0].image, truth))
    titles = ("input", f"{small}, enlarged", f"{large} (plain)", "refined", "truth")
    return compare_rows(dict(zip(titles, pictures, strict=True)), mask, caption=made_with(model, **settings))


def main():
    parser = argparse.ArgumentParser(description="Measure a network on unseen pictures.")
    parser.add_argument("network", nargs="?", default="mini-lama", help="a name or a .safetensors (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=64, help="drawn scenes for each kind of hole (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=0, help="holes for each of scikit-image's photos (default: %(default)s)")
    parser.add_argument("--masks", nargs="+", choices=STROKES, default=["thick"], help="kinds of holes (default: thick)")
    parser.add_argument("--size", type=int, default=64, help="the training size in pixels (default: %(default)s)")
    parser.add_argument("--times", type=int, default=4, help="scenes are this many times larger (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of scenes and holes (default: %(default)s)")
    parser.add_argument("--erosion", type=int, default=15, help="in pixels (default: %(default)s)")
    parser.add_argument("--loss", choices=LOSSES, default="paper", help="(default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.005, help="of z (default: %(default)s, best for the embedded networks)")
    parser.add_argument("--n-iters", type=int, default=15, help="updates of z at each level (default: %(default)s)")
    parser.add_argument("--optimizers", action="store_true", help="compare optimizers of z, each with its updates and rate")
    parser.add_argument("--figures", type=Path, help="a folder to write effect.png into, the first four scenes")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    args = parser.parse_args()
    if args.scenes < 0 or args.photos < 0 or args.scenes + args.photos == 0:
        parser.error(f"--scenes is {args.scenes} and --photos {args.photos}; expected 0 or more, and not both 0")
    if args.times < 2:
        parser.error(f"--times is {args.times}; expected 2 or more: at the training size there is nothing to refine")
    try:
        model = load_network(args.network, args.device)
        if args.figures:
            args.figures.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    device = next(model.parameters()).device
    settings = dict(smallest_scale=args.size, erosion=args.erosion, lr=args.lr, n_iters=args.n_iters)
    settings |= {"loss": args.loss} if args.loss != "paper" else {}  # a table says what is not as usual

    def report(title, pictures, figure=None):
        measured = measure(title, pictures, model, keep=1, **settings)
        print(f"\n{measured}\n", flush=True)
        if args.figures and figure:
            path = args.figures / f"{figure}.png"
            shown = dict(network=args.network, scenes=f"0 to {len(measured.kept[0][1]) - 1} of seed {args.seed}")
            figure_of(measured.kept, model, **shown, **settings).savefig(path, dpi=140)
            print(f"wrote {path}", flush=True)

    for kind in args.masks:
        if args.scenes:
            size = args.times * args.size
            drawn = scenes(args.scenes, size, kind, args.seed, device)
            if args.optimizers:
                same = {name: value for name, value in settings.items() if name in SHARED}
                print(f"\n{compare_optimizers(f'drawn scenes of {size} px, {kind} holes', drawn, model, **same)}\n")
                continue
            report(f"drawn scenes of {size} px, {kind} holes", drawn, "effect" if kind == args.masks[-1] else None)
        if args.photos:
            report(f"holes in {len(BUILT_IN)} photos, {kind}", photos(args.photos, kind, args.seed, device))
    shared = {name: value for name, value in settings.items() if not args.optimizers or name in SHARED}
    print(made_with(model, network=args.network, seed=args.seed, **shared))


if __name__ == "__main__":
    main()
