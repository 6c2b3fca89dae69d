"""What a refinement costs, as a table, sentences and figures: ``python -m refine_lib.workshop.benchmark``."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import psutil
import torch

from refine_lib.device import pick_device
from refine_lib.fast.process import peak_memory, return_free_memory
from refine_lib.workshop.costs import (
    ALONE,
    EXACT,
    MEASURED,
    MIXED,
    NETWORKS,
    OURS,
    POLYAK,
    SEED,
    THEIRS,
    WHO,
    contestants,
    measure,
)
from refine_lib.workshop.growth import measured_growth, pairs_of
from refine_lib.workshop.work import Machine, line_of


def _print_peak(who, name, size, n_iters, device, baseline):
    device = pick_device(device)
    small = 2 * min(NETWORKS[name], 128)
    contestants(name, small, 1, device, baseline, mixed=True)[0][who]()  # what libraries take once
    found, _ = contestants(name, size, n_iters, device, baseline, mixed=True)
    return_free_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
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
    parser.add_argument("--mixed", action="store_true", help="with convolutions in bfloat16, too")
    parser.add_argument("--only", nargs="+", choices=WHO, metavar="WHO", help=f"of {', '.join(WHO)} (default: all)")
    parser.add_argument("--warm-ups", type=int, default=1, help="runs of each that are not counted (default: %(default)s)")
    parser.add_argument("--only-ours-from", type=int, default=10**9, metavar="PX", help="size from which nothing else is run")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--json", type=Path, help="a file to write the raw numbers into")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="to draw speed.png and memory.png into")
    parser.add_argument("--peak-of", choices=MEASURED, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        _print_peak(args.peak_of, args.network, args.sizes[0], args.n_iters, args.device, args.baseline)
        return
    if args.figures and args.only:
        parser.error("--figures needs all who run; --only was given")
    if args.json and args.json.exists():
        parser.error(f"--json is {str(args.json)!r}, which is there already; expected a new name")
    for folder in filter(None, (args.figures, args.json and args.json.parent)):
        folder.mkdir(parents=True, exist_ok=True)
    rows, grown = [], None

    def store():  # after each row: what fails at a large size leaves the small ones
        if args.json:
            numbers = dict(machine=asdict(machine), growth=grown and asdict(grown), rows=[asdict(row) for row in rows])
            args.json.write_text(json.dumps(numbers, indent=1))

    try:
        device = pick_device(args.device)
        machine = Machine.measured(device)
        for size in args.sizes:
            alone = size >= args.only_ours_from
            runs, only, warm_ups = ALONE if alone else (args.runs, args.only, args.warm_ups)
            more = (args.device, args.baseline, args.mixed, only, warm_ups, machine)
            rows.append(measure(args.network, size, args.n_iters, runs, *more))
            cells = rows[-1].cells()
            if len(rows) == 1:
                print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}")
            print(f"| {' | '.join(cells.values())} |", flush=True)
            store()
        if not args.only:
            grown = measured_growth(args.network, args.sizes[0], args.n_iters, device, args.runs, args.baseline)
        store()
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    runs = f"median of {args.runs} run{'s' * (args.runs > 1)}"
    runs += f", one from {args.only_ours_from} px on" * (rows[-1].size >= args.only_ours_from and args.runs > 1)
    print(f"\n{args.network}, {args.n_iters} updates a level, seed {SEED}, {runs}, {rows[0].device}")
    print("\n".join(_findings(rows, machine, grown)))
    if args.figures:
        from refine_lib.workshop.benchmark_plots import draw  # Matplotlib is slow to load

        draw(rows, grown, args.figures)


def _findings(rows, machine, grown):
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
    if grown is None:
        return
    updates = [(n + 1, seconds) for n, seconds in pairs_of(grown.seconds_by_updates, OURS)]
    if len(updates) > 2:  # or a line would fit by necessity
        start, slope, off = line_of(*zip(*updates, strict=True))
        counts = ", ".join(str(n) for n, _ in updates)
        yield f"- {rows[0].size} px, {counts} passes a level: {start:.2f} s and {slope:.3f} s a pass, off by at most {off:.0%}"
    if len(rows) > 2:
        start, slope, off = line_of([row.size**2 / 1e6 for row in rows], [row.seconds[OURS] for row in rows])
        yield f"- all sizes: {start:.2f} s and {slope:.1f} s a megapixel, off by at most {off:.0%}"
    yield from grown.findings()


if __name__ == "__main__":
    main()
