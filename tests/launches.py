"""Launches of kernels in an iteration, on the pretended device: ``python tests/launches.py [--baseline CHECKOUT]``.

How long they take on a GPU the pretended device cannot show, but how many there are it can: so many would a graph of them save.
With a checkout of ``advimman/lama``, the authors' own code is counted beside ours.
"""

import argparse
from collections import Counter
from pathlib import Path

import torch
import twin

from refine_lib.pyramid import level_sizes
from refine_lib.workshop.costs import NETWORKS, contestants

MANY, FEW = 2, 1  # iterations: what lies between their counts belongs to the iterations alone


def launches(network: str, size: int, baseline: Path | None = None) -> dict[str, Counter]:
    """By name of a way to refine: how often an iteration of a level calls each kernel."""
    counts = []
    for n_iters in (MANY, FEW):
        ways, _ = contestants(network, size, n_iters, "twin", baseline, mixed=True)
        counts.append({name: _counted(way) for name, way in ways.items() if name != "polyak"})
    n_refined = len(level_sizes(size, size, NETWORKS[network])) - 1
    return {
        name: Counter({call: n / n_refined / (MANY - FEW) for call, n in (counts[0][name] - counts[1][name]).items()})
        for name in counts[0]
    }


def _counted(way):
    with twin.counted() as (seen, _):
        way()
        return sum((Counter({name: n}) for (name, _), n in seen.items()), Counter())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="mini-lama")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--baseline", type=Path, help="a checkout of advimman/lama")
    args = parser.parse_args()
    twin.install()
    print(f"{args.network}, {args.size} px, torch {torch.__version__}")
    for name, calls in launches(args.network, args.size, args.baseline).items():
        most = ", ".join(f"{call} {n:.0f}" for call, n in calls.most_common(5))
        print(f"{name}: {calls.total():.0f} launches an iteration ({most}, ...)")
