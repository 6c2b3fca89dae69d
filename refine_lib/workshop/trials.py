"""Compares trials of a recipe: ``python -m refine_lib.workshop.trials a.safetensors b.safetensors --figure trials.png``.

Each file is what ``train --anneal`` wrote. All are measured on the same unseen scenes of another generator, half of them simple
and half busy, at four times the training size. Prints a line for each: what is changed, the processor's minutes, the figures.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from safetensors import safe_open

from refine_lib.networks import load_network
from refine_lib.plots import made_with
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.effect import SETTINGS, measure, strip
from refine_lib.workshop.other_scenes import GENERATORS

COLUMNS = ("trial", "pictures seen", "minutes", "small / Telea", "plain", "enlarged", "refined", "sharp", "grid")
PER_GENERATOR = 3  # pictures of each that a strip shows


def unseen(n, size, seed):
    """n scenes of each generator (2 n, 3, size, size), the first ones of each coming first, and holes (2 n, 1, size, size)."""
    drawn = [draw(size, n, seed) for draw in GENERATORS.values()]
    parts = [one[:PER_GENERATOR] for one in drawn] + [one[PER_GENERATOR:] for one in drawn]
    return torch.cat(parts), stroke_masks(size, len(drawn) * n, seed, "thick")


def header(path):
    """What the file of a trial tells of itself: a dictionary, empty for a network that is no trial."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def changes(recipe, base):
    """What distinguishes a recipe from another, in words."""
    return ", ".join(f"{name} {value}" for name, value in recipe.items() if base.get(name) != value) or "as it is"


def names_of(paths):
    """{path: name}: a file's name without its ending, and its folder's before it where two would have the same."""
    stems = [Path(path).stem for path in paths]
    return {
        path: stem if stems.count(stem) == 1 else f"{Path(path).parent.name}/{stem}"
        for path, stem in zip(paths, stems, strict=True)
    }


def row(name, told, effect):
    """A trial's line of the table; ``told`` is its file's header."""
    grid, beside_telea = f"{effect.grid:.2f} ({effect.grid_of_truth:.2f})", f"{effect.small / effect.telea:.2f}"
    pictures = f"{int(told['pictures']):,}" if "pictures" in told else ""
    figures = [f"{x:.3f}" for x in (effect.plain, effect.enlarged, effect.refined)]
    cells = [name, pictures, told.get("minutes", ""), beside_telea, *figures, f"{effect.sharp:.2f}", grid]
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description="Compare trials of a recipe on scenes that none of them was written for.")
    parser.add_argument("trials", nargs="+", metavar="NETWORK", help="what train --anneal wrote, or the name of a network")
    parser.add_argument("--scenes", type=int, default=16, help="of each generator (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5, help="of scenes and holes (default: %(default)s)")
    parser.add_argument("--figure", type=Path, help="a file for the strip: the first three scenes of each generator")
    args = parser.parse_args()
    if args.scenes < PER_GENERATOR:
        parser.error(f"--scenes is {args.scenes}; expected {PER_GENERATOR} or more")
    torch.set_num_threads(1)
    pictures, masks = unseen(args.scenes, 4 * SETTINGS["smallest_scale"], args.seed)
    headers = {path: header(path) if Path(path).exists() else {} for path in args.trials}
    recipes = {path: json.loads(found["recipe"]) for path, found in headers.items() if "recipe" in found}
    base, rows, kept = next(iter(recipes.values()), {}), [], {}
    for path, found in headers.items():
        name = names_of(args.trials)[path]
        model = load_network(path, "cpu")
        effect = measure(model, pictures, masks, name, "unseen scenes", keep=len(GENERATORS) * PER_GENERATOR)
        what = f"{name}: {changes(recipes[path], base)}" if path in recipes else name
        rows.append(row(what, found, effect))
        *ways, truth = effect.kept.items()
        kept = {ways[0][0]: ways[0][1]} | kept | {name: effect.kept["refined"]}
        print(rows[-1], flush=True)
    print(f"\n| {' | '.join(COLUMNS)} |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|", *rows, sep="\n")
    caption = made_with(model, scenes=2 * args.scenes, seed=args.seed, masks="thick", **SETTINGS)
    print(f"\n{caption}; grid: in brackets that of the truth")
    if args.figure:
        figure = strip(replace(effect, kept=kept | dict([truth])), f"refined by each trial; {caption}")
        figure.savefig(args.figure, dpi=140)
        plt.close(figure)
        print(f"wrote {args.figure}")


if __name__ == "__main__":
    main()
