"""What a refinement costs, beside the authors' code where there is a checkout: ``python -m refine_lib.workshop.benchmark``.

Times are of runs in alternation in one process, so that a busy machine is as bad for the one as for the other. Memory is the
most that a run takes beyond what was held before it; on a CPU that of a process of its own, after a small run that loads what
libraries load once.
"""

import argparse
import json
import statistics
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from tqdm.auto import tqdm

from refine_lib.device import describe, pick_device
from refine_lib.fast.process import peak_memory, return_free_memory
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
from refine_lib.workshop.work import Machine, Timed, Work, line_of, timed

NETWORKS = {"mini-lama": 64, "lama-fourier": 512, "big-lama": 512}  # and the smallest scale; the large ones with random weights
OURS, THEIRS, EXACT, MIXED, POLYAK = "refine_lib", "authors", "exact", "mixed", "polyak"
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


def contestants(name, size, n_iters, device, baseline=None, mixed=False):
    """Functions without arguments that fill one picture, by name, and the network.

    With a baseline all make the same number of updates.
    """
    generator = generator_of(name).to(device).eval()
    image = random_scenes(size, seed=SEED, device=device)
    mask = stroke_masks(size, seed=SEED, device=device)
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


def measure(name, size, n_iters=15, runs=3, device=None, baseline=None, mixed=False, only_ours=False, machine=None):
    """Measures one size.

    Args:
        name: of ``NETWORKS``.
        size: of a square picture, in pixels.
        n_iters: updates at each level.
        runs: of each contestant, in alternation, after one that is not counted; one, and no other, with ``only_ours``.
        device: as in ``load_network``.
        baseline: the path of a checkout of the authors' code, or None.
        mixed: whether ``speed="mixed"`` is run too.
        only_ours: whether nothing else is run, as for sizes at which that would take too long.
        machine: a ``Machine``; None measures it.

    Returns:
        A ``Row``.
    """
    device = pick_device(device)
    machine = machine or Machine.measured(device)
    baseline = None if only_ours else baseline
    found, model = contestants(name, size, n_iters, device, baseline, mixed)
    warm_ups = 1
    if only_ours:
        found, runs, warm_ups = {OURS: found[OURS]}, 1, 0
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
        if baseline is not None:
            row.differences[THEIRS] = (found[EXACT](loss="code").image.cpu() - results.pop(THEIRS).cpu()).abs().max().item()
    row.seconds = {who: statistics.median(times) for who, times in row.all_seconds.items()}
    row.speed = results[OURS].speed
    row.losses = {who: result.losses[-1][-1] for who, result in results.items() if result.losses and result.losses[-1]}
    if EXACT in results:
        exact = results[EXACT].image
        row.differences |= {w: (results[w].image - exact).abs().max().item() for w in (OURS, MIXED) if w in results}
    measured = [who for who in (OURS, EXACT, THEIRS) if who in found]
    del found, model, results
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what is kept here is not there for the processes that measure memory
    row.peak_memory = {who: _peak_of(who, name, size, n_iters, device, baseline) for who in measured}
    row.parts = _parts_of(name, size, n_iters, min(n_iters, 2) if only_ours else n_iters, device)
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


def _peak_of(who, name, size, n_iters, device, baseline):
    """The most memory that a run takes beyond what was held before it, in bytes, in a process of its own."""
    options = {"network": name, "sizes": size, "n-iters": min(n_iters, 3), "device": device, "peak-of": who}
    options |= {"baseline": baseline} if baseline else {}
    command = [sys.executable, "-m", "refine_lib.workshop.benchmark"]
    command += [word for option, value in options.items() for word in (f"--{option}", value)]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the process that measures the memory of {who} failed: {run.stderr.strip()[-500:]}")
    return int(run.stdout)


def _print_peak(who, name, size, n_iters, device, baseline):
    device = pick_device(device)
    small = 2 * min(NETWORKS[name], 128)
    contestants(name, small, 1, device, baseline)[0][who]()  # what libraries take once
    found, _ = contestants(name, size, n_iters, device, baseline)
    return_free_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    found[who]()
    print(max(peak_memory(device) - held, 0))


def growth(name, size, n_iters, device, runs=3):
    """Seconds of ``refine_lib`` at one size for a third, two thirds and all of the updates: pairs (updates, seconds)."""
    counts = sorted({max(1, n_iters // 3), max(1, 2 * n_iters // 3), n_iters})
    runners = {n: contestants(name, size, n, device)[0][OURS] for n in counts}
    times = {n: [] for n in counts}
    for run in runners.values():
        run()
    for _ in range(runs):
        for n, run in runners.items():
            times[n].append(timed(run, device)[1])
    return [(n, statistics.median(t)) for n, t in times.items()]


def main():
    parser = argparse.ArgumentParser(description="Measure what a refinement costs, in seconds and in memory.")
    parser.add_argument("--network", choices=NETWORKS, default="mini-lama", help="(default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512], help="sides in pixels (default: 128 256 512)")
    parser.add_argument("--n-iters", type=int, default=15, help="updates at each level (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each, in alternation (default: %(default)s)")
    parser.add_argument("--baseline", type=Path, help="a checkout of advimman/lama, to run the authors' code in alternation")
    parser.add_argument("--mixed", action="store_true", help="with convolutions in bfloat16, too")
    parser.add_argument("--only-ours-from", type=int, default=10**9, metavar="PX", help="size from which nothing else is run")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--json", type=Path, help="a file to write the raw numbers into")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="to draw speed.png and memory.png into")
    parser.add_argument("--peak-of", choices=(OURS, EXACT, THEIRS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        _print_peak(args.peak_of, args.network, args.sizes[0], args.n_iters, args.device, args.baseline)
        return
    if args.json and args.json.exists():
        parser.error(f"--json is {str(args.json)!r}, which is there already; expected a new name")
    for folder in filter(None, (args.figures, args.json and args.json.parent)):
        folder.mkdir(parents=True, exist_ok=True)
    rows, by_updates = [], []

    def store():  # after each row: what fails at a large size leaves the small ones
        if args.json:
            numbers = dict(machine=asdict(machine), by_updates=by_updates, rows=[asdict(row) for row in rows])
            args.json.write_text(json.dumps(numbers, indent=1))

    try:
        device = pick_device(args.device)
        machine = Machine.measured(device)
        for size in args.sizes:
            more = (args.device, args.baseline, args.mixed, size >= args.only_ours_from, machine)
            rows.append(measure(args.network, size, args.n_iters, args.runs, *more))
            cells = rows[-1].cells()
            if len(rows) == 1:
                print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}")
            print(f"| {' | '.join(cells.values())} |", flush=True)
            store()
        by_updates += growth(args.network, args.sizes[0], args.n_iters, device, args.runs)
        store()
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    runs = f"median of {args.runs} run{'s' * (args.runs > 1)}"
    runs += f", one from {args.only_ours_from} px on" * (rows[-1].size >= args.only_ours_from and args.runs > 1)
    print(f"\n{args.network}, {args.n_iters} updates a level, seed {SEED}, {runs}, {rows[0].device}")
    print("\n".join(_findings(rows, machine, by_updates)))
    if args.figures:
        from refine_lib.workshop.benchmark_plots import plot_memory, plot_speed  # Matplotlib is slow to load

        for name, plot in (("speed", plot_speed), ("memory", plot_memory)):
            axes = plot(rows, caption=f"{args.network}, {args.n_iters} updates a level, seed {SEED}, {rows[0].device}")
            np.ravel(axes)[0].figure.savefig(args.figures / f"{name}.png")


def _findings(rows, machine, by_updates):
    """What the numbers say, in sentences."""
    rate, bandwidth = machine.flops_per_second / 1e9, machine.bytes_per_second / 1e9
    yield f"- machine: {rate:.0f} GFLOP/s in float32, in a product or a convolution, {bandwidth:.1f} GB/s in a copy"
    for who in (OURS, MIXED, THEIRS):
        found = [row.differences[who] for row in rows if who in row.differences]
        if found:
            beside = "their picture from ours, exact, with their loss" if who == THEIRS else f"{who} from exact"
            yield f"- largest difference of a pixel, {beside}: {max(found):.1e}"
    for who in (OURS, MIXED, POLYAK):
        off = [row.losses[who] / row.losses[EXACT] - 1 for row in rows if who in row.losses and EXACT in row.losses]
        if off:
            yield f"- last loss of {who} beside exact: {min(off):+.2%} to {max(off):+.2%}"
    for who in (MIXED, POLYAK):
        shares = [f"{row.seconds[who] / row.seconds[THEIRS]:.2f}" for row in rows if {who, THEIRS} <= set(row.seconds)]
        if shares:
            yield f"- seconds of {who}, of the authors': {', '.join(shares)}"
    updates = [(n + 1, seconds) for n, seconds in by_updates]
    if len(updates) > 2:  # or a line would fit by necessity
        start, slope, off = line_of(*zip(*updates, strict=True))
        counts = ", ".join(str(n) for n, _ in updates)
        yield f"- {rows[0].size} px, {counts} passes a level: {start:.2f} s and {slope:.3f} s a pass, off by at most {off:.0%}"
    if len(rows) > 2:
        start, slope, off = line_of([row.size**2 / 1e6 for row in rows], [row.seconds[OURS] for row in rows])
        yield f"- all sizes: {start:.2f} s and {slope:.1f} s a megapixel, off by at most {off:.0%}"


if __name__ == "__main__":
    main()
