"""Asks how few updates of z will do, network by network: ``python -m refine_lib.workshop.few_updates u-net --losses code``.

Adam is asked twice: with the paper's learning rate, and with that of ``RATES`` which is the best for this network, loss and
kind of holes, on other pictures. Prints a line of a table in Markdown for each level of the pyramid. Networks are those of
``small_networks`` as well.
"""

import argparse

import torch
import torch.nn.functional as F

from refine_lib.checks import LARGEST_SEED, LOSSES, as_integer
from refine_lib.masks import erode, paste
from refine_lib.metrics import fraction, gain, l1
from refine_lib.photos.pixels import BUILT_IN, load_photo
from refine_lib.pyramid import build_pyramid, downscale, whole_hole
from refine_lib.refine import check_settings
from refine_lib.scenes.strokes import STROKES, stroke_masks
from refine_lib.workshop.model_card import last_losses, refined_by, scenes
from refine_lib.workshop.small_networks import SIZE, model_of

RATES = (0.0005, 0.002, 0.005, 0.01, 0.02, 0.05)
CHOSEN_ON = 301  # the seed of the pictures on which the best rate is found
ADAM, BEST, FIVE, THREE = "Adam 15, lr 0.002", "Adam 15, best lr", "Polyak 5", "Polyak 3"
COLUMNS = ("network", "loss", "px", "holes", "pictures", "plain", ADAM, BEST, FIVE, THREE)
COLUMNS += tuple(f"{way} below {BEST}" for way in (FIVE, THREE))
TARGETS = ("network", "px", "holes", "smaller picture", "plain, downscaled", "smaller below plain")


def best_rate(pictures, model, **settings):
    """That of ``RATES`` with which 15 updates of Adam give the lowest L1 in the hole, over all pictures together."""
    ways = {lr: dict(optimizer="adam", n_iters=15, lr=lr) for lr in RATES}
    pairs = {lr: [] for lr in RATES}
    for lr, truth, mask, result in refined_by(ways, pictures, model, **settings):
        pairs[lr].append(l1(result.image, truth, mask))
    return min(RATES, key=lambda lr: fraction(torch.cat(pairs[lr])).item())


@torch.no_grad()
def plain_pairs(model, level):
    """The pairs of ``l1`` of one plain pass at a level."""
    return l1(model(level.image, level.mask), level.image, level.mask)


def compare(name, kind, lr, pictures, model, loss="paper", **settings):
    """Refines pictures by Adam and by Polyak's step.

    Args:
        name, kind: of the network and of the holes, for the table.
        lr: Adam's other learning rate.
        pictures, model: as in ``model_card.measure``; the pictures are of one size.
        loss, settings: of ``multiscale_inpaint``.

    Returns:
        A line for each refined level, with the cells of ``COLUMNS``. A level's truth is the whole picture at its size. A cell
        of an optimizer is the L1 in the hole and, in brackets, the last loss, a mean over the pictures that have one; the last
        two have 95% of bootstrap samples, in pairs.
    """
    ways = {ADAM: dict(optimizer="adam", n_iters=15, lr=0.002), BEST: dict(optimizer="adam", n_iters=15, lr=lr)}
    ways |= {FIVE: dict(optimizer="polyak", n_iters=5), THREE: dict(optimizer="polyak", n_iters=3)}
    pairs, losses = {}, {}
    for way, _, _, result in refined_by(ways, pictures, model, loss=loss, **settings):
        for level, last in zip(result.levels[1:], last_losses(result), strict=True):
            px = level.image.shape[-1]
            if way == ADAM:
                pairs.setdefault((px, "plain"), []).append(plain_pairs(model, level))
            pairs.setdefault((px, way), []).append(l1(level.inpainted, level.image, level.mask))
            losses.setdefault((px, way), []).append(last)
    pairs = {key: torch.cat(found) for key, found in pairs.items()}
    lines = []
    for px in sorted({px for px, _ in pairs}):
        cells = [name, loss, str(px), kind, str(len(pairs[px, ADAM])), f"{fraction(pairs[px, 'plain']):.4f}"]
        for way in ways:
            last = torch.tensor(losses[px, way]).nanmean()
            cells.append(f"{fraction(pairs[px, way]):.4f} ({last:.4f})" + f", lr {lr:g}" * (way == BEST))
        cells += ["{:.1%} [{:.1%}, {:.1%}]".format(*gain(pairs[px, way], pairs[px, BEST])) for way in (FIVE, THREE)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


@torch.no_grad()
def targets(name, kind, pictures, model, erosion, smallest_scale=SIZE):
    """Asks whether a smaller picture, which refinement follows, knows better than a plain pass at twice its size.

    Args:
        name, kind, pictures, model: as in ``compare``.
        erosion, smallest_scale: of ``multiscale_inpaint``.

    Returns:
        A line for each level but the smallest, with the cells of ``TARGETS``: the L1 of a plain pass at half the size, where
        the two are compared, that of the plain pass downscaled, and by how much the first is lower.
    """
    pairs = {}
    for truth, mask in pictures:
        pyramid = build_pyramid(truth, mask, smallest_scale)
        plain = [paste(model(level.image, level.mask), level.image, level.mask) for level in pyramid]
        for i, level in enumerate(pyramid[1:]):
            eroded = erode(whole_hole(level.mask, pyramid[i].size), erosion)
            both = [l1(filled, pyramid[i].image, eroded) for filled in (plain[i], downscale(plain[i + 1]))]
            pairs.setdefault(level.size[1], []).append(torch.stack(both))
    lines = []
    for px, found in pairs.items():
        smaller, larger = torch.cat(found, dim=1)
        by = "{:.1%} [{:.1%}, {:.1%}]".format(*gain(smaller, larger))
        lines.append(f"| {name} | {px} | {kind} | {fraction(smaller):.4f} | {fraction(larger):.4f} | {by} |")
    return lines


def squares(n, size, kind, seed):
    """Yields n squares of scikit-image's photos, each of them in turn, with a hole: their middle at the size."""
    for i in range(n):
        photo = load_photo(BUILT_IN[i % len(BUILT_IN)])
        side = min(photo.shape[-2:])
        top, left = ((length - side) // 2 for length in photo.shape[-2:])
        square = photo[..., top : top + side, left : left + side]
        square = F.interpolate(square, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        yield square, stroke_masks(size, 1, seed + i, kind)


def main():
    parser = argparse.ArgumentParser(description="Compare a few updates by Polyak's step with fifteen of Adam's.")
    parser.add_argument("network", help="of small_networks, the .ckpt of a training, or as for load_network")
    parser.add_argument("--name", help="of the network in the table (default: as it is given)")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES, help="(default: all)")
    parser.add_argument("--masks", nargs="+", choices=STROKES, default=["thick", "medium"], help="(default: thick medium)")
    parser.add_argument("--pictures", type=int, default=16, help="for each kind of hole (default: %(default)s)")
    parser.add_argument("--times", type=int, default=4, help=f"the pictures' side, in {SIZE} px (default: %(default)s)")
    parser.add_argument("--erosion", type=int, default=15, help="in pixels; narrow holes want less (default: %(default)s)")
    parser.add_argument("--lr", type=float, help="Adam's other learning rate (default: the best, on other pictures)")
    parser.add_argument("--targets", action="store_true", help="ask instead whether the smaller picture knows better")
    parser.add_argument("--photos", action="store_true", help="scikit-image's photos in place of drawn scenes")
    parser.add_argument("--seed", type=int, default=201, help="of scenes and holes (default: %(default)s)")
    args = parser.parse_args()
    if min(args.pictures, args.times - 1) < 1:
        parser.error(f"--pictures is {args.pictures} and --times {args.times}; expected at least 1, and at least 2")
    try:
        check_settings(0.002 if args.lr is None else args.lr, 15, args.erosion, "paper", None)
        as_integer(args.seed, "seed", "", most=LARGEST_SEED)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    try:
        model = model_of(args.network)
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(f"argument network: {error}")

    def drawn(n, times, kind, seed):
        size = times * SIZE
        return squares(n, size, kind, seed) if args.photos else scenes(n, size, kind, seed, "cpu")

    name, columns = args.name or args.network, TARGETS if args.targets else COLUMNS
    print(f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", sep="\n", flush=True)
    settings = dict(smallest_scale=SIZE, erosion=args.erosion)
    for kind in args.masks:
        title = kind if args.erosion == 15 else f"{kind}, erosion {args.erosion}"
        if args.targets:
            pictures = drawn(args.pictures, args.times, kind, args.seed)
            print(*targets(name, title, pictures, model, args.erosion), sep="\n", flush=True)
            continue
        for loss in args.losses:
            lr = args.lr or best_rate(drawn(3, 4, kind, CHOSEN_ON), model, loss=loss, **settings)
            pictures = drawn(args.pictures, args.times, kind, args.seed)
            print(*compare(name, title, lr, pictures, model, loss, **settings), sep="\n", flush=True)


if __name__ == "__main__":
    main()
