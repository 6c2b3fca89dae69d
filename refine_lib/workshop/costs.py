"""What a refinement costs, beside the authors' code where there is a checkout. The command is ``benchmark``.

Times are of runs in alternation in one process, so that a busy machine is as bad for the one as for the other. Memory is the
most that a run takes beyond what was held before it; on a CPU that of a process of its own, after a small run that loads what
libraries load once.
"""

import statistics
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from functools import partial

import torch
from tqdm.auto import tqdm

from refine_lib.device import describe, pick_device
from refine_lib.fast.speed import sped_up
from refine_lib.networks import EMBEDDED
from refine_lib.networks.lama import LamaGenerator
from refine_lib.networks.registry import load_generator
from refine_lib.networks.split import split_network
from refine_lib.pyramid import level_sizes
from refine_lib.refine import multiscale_inpaint
from refine_lib.scenes import random_scenes
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.baseline import Baseline
from refine_lib.workshop.work import Machine, Timed, Work, timed

NETWORKS = {"mini-lama": 64, "lama-fourier": 512, "big-lama": 512}  # and the smallest scale; the large ones with random weights
OURS, THEIRS, EXACT, MIXED, POLYAK = "refine_lib", "authors", "exact", "mixed", "polyak"
WHO = OURS, THEIRS, EXACT, MIXED, POLYAK
MEASURED = OURS, EXACT, MIXED, THEIRS  # whose memory is measured
ALONE = 1, [OURS], 0  # runs, ``only`` and ``warm_ups`` at a size at which all would take too long
SEED = 1
LR = 0.002
MB = 2**20


@dataclass
class Row:
    """A size, and what it costs, by who runs: medians over the runs.

    Attributes:
        seconds, all_seconds: ``refine_lib`` is ``multiscale_inpaint`` as it comes; ``exact`` is with ``speed="exact"``,
            ``mixed`` with ``speed="mixed"``, ``polyak`` with that optimizer and a third of the updates; ``authors`` is the
            authors' code.
        peak_memory: bytes.
        losses: at the end of the last level.
        differences: the largest of a pixel, from the exact picture in [0, 1]; for ``authors`` that of their picture from an
            exact one with their loss.
        parts: seconds of each part of a run of ``refine_lib``.
        speed: what was done to make ``refine_lib`` fast, in words.
        flops, traffic: operations and bytes that convolutions, matrix products and Fourier transforms of that run need, each
            input read once and each output written once.
    """

    network: str
    size: int
    n_levels: int
    n_iters: int
    device: str
    runs: int
    seconds: dict = field(default_factory=dict)
    all_seconds: dict = field(default_factory=dict)
    peak_memory: dict = field(default_factory=dict)
    losses: dict = field(default_factory=dict)
    differences: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)
    speed: str = ""
    flops: int = 0
    traffic: int = 0
    floor: float = 0.0  # seconds that a machine of the measured rates needs for them at the least

    @property
    def ratios(self):
        """Seconds and memory in relation to the authors' code; empty where it was not run."""
        both = (self.seconds, self.peak_memory) if THEIRS in self.seconds else ()
        return [cost[OURS] / cost[THEIRS] for cost in both]

    def cells(self):
        """The row of the table, by title."""

        def seconds(name):
            return f"{self.seconds[name]:.2f}" if name in self.seconds else ""

        def megabytes(name):
            return f"{self.peak_memory[name] / MB:.0f}" if name in self.peak_memory else ""

        ratios = [f"{ratio:.2f}" for ratio in self.ratios] or ["", ""]
        parts = {name: f"{share / self.seconds[OURS]:.0%}" for name, share in self.parts.items()}
        return {
            "px": f"{self.size}",
            "levels": f"{self.n_levels}",
            "s": seconds(OURS),
            "MB": megabytes(OURS),
            **parts,
            "of the floor": f"{self.seconds[OURS] / self.floor:.1f} x",
            "exact s": seconds(EXACT),
            "mixed s": seconds(MIXED),
            "mixed MB": megabytes(MIXED),
            "polyak s": seconds(POLYAK),
            "authors' s": seconds(THEIRS),
            "authors' MB": megabytes(THEIRS),
            "s, ratio": ratios[0],
            "MB, ratio": ratios[1],
        }


def generator_of(name):
    """A network to measure with; published ones with random weights, which serve for speed."""
    if name in EMBEDDED:
        return load_generator(EMBEDDED[name])
    torch.manual_seed(0)
    return LamaGenerator(n_blocks=9) if name == "lama-fourier" else LamaGenerator()


def contestants(name, size, n_iters, device, baseline=None, mixed=False, batch=1):
    """Functions without arguments that fill one picture, or a batch of the same, by name, and the network.

    With a baseline all make the same number of updates.
    """
    generator = generator_of(name).to(device).eval()
    image = random_scenes(size, seed=SEED, device=device).repeat(batch, 1, 1, 1)
    mask = stroke_masks(size, seed=SEED, device=device).repeat(batch, 1, 1, 1)
    settings = dict(smallest_scale=NETWORKS[name], lr=LR)
    model = split_network(generator)
    ours = partial(multiscale_inpaint, image, mask, progress=False, **settings)
    found = {
        OURS: lambda model=model, speed="auto": ours(model, n_iters=n_iters, speed=speed),
        EXACT: lambda loss="paper": ours(model, n_iters=n_iters, speed="exact", loss=loss),
        POLYAK: lambda: ours(model, n_iters=max(1, n_iters // 3), optimizer="polyak"),
    }
    if mixed:
        found[MIXED] = lambda: ours(model, n_iters=n_iters, speed="mixed")
    if baseline is not None:  # whose last iteration makes no update
        theirs = Baseline(baseline, generator)
        levels = len(level_sizes(size, size, NETWORKS[name]))
        found[THEIRS] = partial(theirs, image, mask, n_iters=n_iters + 1, max_levels=levels, **settings)
    return found, model


def measure(name, size, n_iters=15, runs=3, device=None, baseline=None, mixed=False, only=None, warm_ups=1, machine=None):
    """Measures one size.

    Args:
        name: of ``NETWORKS``.
        size: of a square picture, in pixels.
        n_iters: updates at each level.
        runs: of each contestant, in alternation, after the ``warm_ups``.
        device: as in ``load_network``.
        baseline: the path of a checkout of the authors' code, or None.
        mixed: whether ``speed="mixed"`` is run too.
        only: names of those who are run, as for sizes at which all would take too long; None runs all.
        warm_ups: runs of each that are not counted.
        machine: a ``Machine``; None measures it.

    Returns:
        A ``Row``.
    """
    device = pick_device(device)
    machine = machine or Machine.measured(device)
    found, model = contestants(name, size, n_iters, device, baseline, mixed)
    found = {who: run for who, run in found.items() if only is None or who in only}
    row = Row(name, size, len(level_sizes(size, size, NETWORKS[name])), n_iters, describe(device), runs)
    row.all_seconds = {who: [] for who in found}
    n_runs = warm_ups + runs
    with tqdm(total=n_runs * len(found), desc=f"{name}, {size} px", leave=False) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {}
        for i in range(n_runs):
            for who, run in found.items():
                results[who], seconds = timed(run, device)
                if i >= warm_ups:
                    row.all_seconds[who].append(seconds)
                bar.update()
        if THEIRS in found and EXACT in found:
            row.differences[THEIRS] = (found[EXACT](loss="code").image.cpu() - results[THEIRS].cpu()).abs().max().item()
    row.seconds = {who: statistics.median(times) for who, times in row.all_seconds.items()}
    row.speed = results[OURS].speed
    ours = {who: result for who, result in results.items() if who != THEIRS}
    row.losses = {who: result.losses[-1][-1] for who, result in ours.items() if result.losses and result.losses[-1]}
    if EXACT in results:
        exact = results[EXACT].image
        row.differences |= {w: (results[w].image - exact).abs().max().item() for w in (OURS, MIXED) if w in results}
    measured = [who for who in MEASURED if who in found]
    del found, model, results
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what is kept here is not there for the processes that measure memory
    row.peak_memory = {who: peak_of(who, name, size, min(n_iters, 3), device, baseline) for who in measured}
    row.parts = _parts_of(name, size, n_iters, n_iters if only is None else min(n_iters, 2), device)
    scale = row.seconds[OURS] / sum(row.parts.values())  # the stopwatch costs a little
    row.parts = {part: scale * spent for part, spent in row.parts.items()}
    row.flops, row.traffic = _work_of(name, size, n_iters, device)
    row.floor = machine.least_seconds(row.flops, row.traffic)
    return row


def _parts_of(name, size, n_iters, n_timed, device):
    """Seconds of each part of a run of n_iters updates, from a run of n_timed: each update needs the same again."""
    found, model = contestants(name, size, n_timed, device)
    parts = Timed(sped_up(model)[0])
    _, total = timed(lambda: found[OURS](parts, "exact"), device)
    rest = total - sum(parts.seconds.values())
    passes = (n_iters + 1) / (n_timed + 1)
    often = {"front": 1.0, "rear": passes, "gradient": n_iters / n_timed}
    return {part: often[part] * spent for part, spent in parts.seconds.items()} | {"loss and rest": passes * rest}


def _work_of(name, size, n_iters, device):
    """Operations and bytes of a run, counted for one update and for two: each further one needs the same again."""
    counted = []
    for n in (1, 2):
        found, model = contestants(name, size, n, device)
        with Work() as work:  # "exact": of a network that is sped up already, without trial runs for its memory
            found[OURS](sped_up(model)[0], "exact")
        counted.append((work.flops, work.traffic))
    return [first + (n_iters - 1) * (second - first) for first, second in zip(*counted, strict=True)]


def peak_of(who, name, size, n_iters, device, baseline):
    """The most memory that a run takes beyond what was held before it, in bytes, in a process of its own."""
    options = {"network": name, "sizes": size, "n-iters": n_iters, "device": device, "peak-of": who}
    options |= {"baseline": baseline} if baseline else {}
    command = [sys.executable, "-m", "refine_lib.workshop.benchmark"]
    command += [word for option, value in options.items() for word in (f"--{option}", value)]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the process that measures the memory of {who} failed: {run.stderr.strip()[-500:]}")
    return int(run.stdout)
