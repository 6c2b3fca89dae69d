"""What a refinement costs, beside the authors' code where there is a checkout: ``python -m refine_lib.benchmark``.

Times are of runs in alternation in one process, so that a busy machine is as bad for the one as for the other. On a CPU memory
is that of a process of its own: the most that it held in a run, beyond what it held before.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import psutil
import torch

from refine_lib.baseline import Baseline
from refine_lib.device import describe, peak_memory, pick_device
from refine_lib.masks import stroke_masks
from refine_lib.networks import EMBEDDED
from refine_lib.networks.lama import LamaGenerator
from refine_lib.networks.weights import load_generator
from refine_lib.pyramid import level_sizes
from refine_lib.refine import multiscale_inpaint
from refine_lib.scenes import random_scenes
from refine_lib.split import split_network

NETWORKS = {"mini-lama": 64, "lama-fourier": 512, "big-lama": 512}  # and the smallest scale; the large ones with random weights
OURS, THEIRS = "refine_lib", "authors"
SEED = 1


@dataclass
class Row:
    """A size, and what it costs: medians over the runs. Seconds, bytes, and the seconds of each part of a run of ours."""

    network: str
    size: int
    n_levels: int
    n_iters: int
    device: str
    runs: int
    seconds: dict = field(default_factory=dict)
    all_seconds: dict = field(default_factory=dict)
    peak_memory: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)
    difference: float | None = None  # the largest of a pixel, between the two

    @property
    def ratios(self):
        """Seconds and memory in relation to the authors' code; empty where it was not run."""
        both = (self.seconds, self.peak_memory) if THEIRS in self.seconds else ()
        return [cost[OURS] / cost[THEIRS] for cost in both]

    def __str__(self):
        def cells(name):
            return [f"{self.seconds[name]:.2f}", f"{self.peak_memory[name] / 2**20:.0f}"] if name in self.seconds else ["", ""]

        shares = [f"{share / self.seconds[OURS]:.0%}" for share in self.parts.values()]
        ratios = [f"{ratio:.2f}" for ratio in self.ratios] or ["", ""]
        return "| " + " | ".join([f"{self.size}", f"{self.n_levels}", *cells(OURS), *shares, *cells(THEIRS), *ratios]) + " |"


TITLES = [
    "px",
    "levels",
    "s",
    "MB",
    "front",
    "rear",
    "rear's gradient",
    "loss and Adam",
    "authors' s",
    "MB",
    "s, ratio",
    "MB, ratio",
]


class Timed:
    """A split network that counts the seconds of its parts."""

    def __init__(self, model):
        self.model, self.network_input = model, model.network_input
        self.parameters, self.multiple = model.parameters, model.multiple
        self.device = next(model.parameters()).device
        self.seconds = dict.fromkeys(("front", "rear", "gradient"), 0.0)

    def __call__(self, image, mask):
        return self.rear(self.front(image, mask))

    def front(self, image, mask):
        with _Stopwatch(self, "front"):
            return self.model.front(image, mask)

    def rear(self, z):
        with _Stopwatch(self, "rear"):
            prediction = self.model.rear(z)
        if prediction.requires_grad:
            self._count_gradient(prediction, z)
        return prediction

    def _count_gradient(self, prediction, z):
        """The seconds from when the gradient begins to go through the rear to when the last tensor of z has its own."""
        stopwatch, left, hooks = _Stopwatch(self, "gradient"), {id(t) for t in z}, []

        def arrived(t):
            left.discard(id(t))
            if not left:
                stopwatch.__exit__()
                for hook in hooks:
                    hook.remove()

        prediction.register_hook(lambda _: stopwatch.__enter__())
        hooks += [t.register_post_accumulate_grad_hook(arrived) for t in z if t.is_leaf]


class _Stopwatch:
    def __init__(self, timed, part):
        self.timed, self.part = timed, part

    def __enter__(self):
        _wait_for(self.timed.device)
        self.started = time.perf_counter()

    def __exit__(self, *_):
        _wait_for(self.timed.device)
        self.timed.seconds[self.part] += time.perf_counter() - self.started


def _wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def generator_of(name):
    """A network to measure with; published ones with random weights, which serve for speed."""
    if name in EMBEDDED:
        return load_generator(EMBEDDED[name])
    torch.manual_seed(0)
    return LamaGenerator(n_blocks=9) if name == "lama-fourier" else LamaGenerator()


def contestants(name, size, n_iters, device, baseline=None):
    """Functions without arguments that fill one picture and return it, by name; with a baseline both make the same updates."""
    generator = generator_of(name).to(device).eval()
    image = random_scenes(size, seed=SEED, device=device)
    mask = stroke_masks(size, seed=SEED, device=device)
    settings = dict(smallest_scale=NETWORKS[name], lr=0.002)
    loss = "paper" if baseline is None else "code"
    ours = partial(multiscale_inpaint, image, mask, n_iters=n_iters, loss=loss, progress=False, **settings)
    model = split_network(generator)
    found = {OURS: lambda model=model: ours(model).image}
    if baseline is not None:  # whose last iteration makes no update
        theirs = Baseline(baseline, generator)
        levels = len(level_sizes(size, size, NETWORKS[name]))
        found[THEIRS] = partial(theirs, image, mask, n_iters=n_iters + 1, max_levels=levels, **settings)
    return found, model


def measure(name, size, n_iters=15, runs=3, device=None, baseline=None):
    """Measures one size.

    Args:
        name: of ``NETWORKS``.
        size: of a square picture, in pixels.
        n_iters: updates at each level.
        runs: of each contestant, in alternation, after one that is not counted.
        device: as in ``load_network``.
        baseline: the path of a checkout of the authors' code, or None.

    Returns:
        A ``Row``.
    """
    device = pick_device(device)
    found, model = contestants(name, size, n_iters, device, baseline)
    row = Row(name, size, len(level_sizes(size, size, NETWORKS[name])), n_iters, describe(device), runs)
    pictures = {who: run() for who, run in found.items()}
    seconds = {who: [] for who in found}
    for _ in range(runs):
        for who, run in found.items():
            _wait_for(device)
            started = time.perf_counter()
            run()
            _wait_for(device)
            seconds[who].append(time.perf_counter() - started)
    row.all_seconds = seconds
    row.seconds = {who: statistics.median(times) for who, times in seconds.items()}
    row.peak_memory = {who: _peak_of(who, name, size, n_iters, device, baseline) for who in found}
    timed = Timed(model)
    started = time.perf_counter()
    found[OURS](timed)
    total = time.perf_counter() - started
    scale = row.seconds[OURS] / total  # the stopwatch costs a little
    row.parts = {part: scale * spent for part, spent in timed.seconds.items()}
    row.parts["rest"] = row.seconds[OURS] - sum(row.parts.values())
    if baseline is not None:
        row.difference = (pictures[OURS].cpu() - pictures[THEIRS].cpu()).abs().max().item()
    return row


def _peak_of(who, name, size, n_iters, device, baseline):
    """The most memory that a run takes beyond what was held before it, in bytes, in a process of its own."""
    command = [sys.executable, "-m", "refine_lib.benchmark", "--network", name, "--sizes", size, "--n-iters", n_iters]
    command += ["--device", device, "--peak-of", who] + (["--baseline", baseline] if baseline else [])
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the process that measures the memory of {who} failed: {run.stderr.strip()[-500:]}")
    return int(run.stdout)


def _print_peak(who, name, size, n_iters, device, baseline):
    device = pick_device(device)
    found, _ = contestants(name, size, n_iters, device, baseline)
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    found[who]()
    print(max(peak_memory(device) - held, 0))


def main():
    parser = argparse.ArgumentParser(description="Measure what a refinement costs, in seconds and in memory.")
    parser.add_argument("--network", choices=NETWORKS, default="mini-lama", help="(default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512], help="sides in pixels (default: 128 256 512)")
    parser.add_argument("--n-iters", type=int, default=15, help="updates at each level (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each, in alternation (default: %(default)s)")
    parser.add_argument("--baseline", type=Path, help="a checkout of advimman/lama, to run the authors' code in alternation")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--json", type=Path, help="a file to write the raw numbers into")
    parser.add_argument("--peak-of", choices=(OURS, THEIRS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        _print_peak(args.peak_of, args.network, args.sizes[0], args.n_iters, args.device, args.baseline)
        return
    if args.json and args.json.exists():
        parser.error(f"--json is {str(args.json)!r}, which is there already; expected a new name")
    rows = []
    try:
        for size in args.sizes:
            rows.append(measure(args.network, size, args.n_iters, args.runs, args.device, args.baseline))
            if len(rows) == 1:
                print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}")
            print(rows[-1], flush=True)
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    print(f"\n{args.network}, {args.n_iters} updates a level, seed {SEED}, median of {args.runs} runs, {rows[0].device}")
    if args.baseline:
        print(f"largest difference of a pixel from the authors' picture: {max(row.difference for row in rows):.1e}")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
