"""All that only a GPU can show, in one command: ``python -m refine_lib.workshop.on_gpu -o RESULTS``; a table is at its end.

The GPU tests, the benchmark of Big-LaMa up to 4096 px and every lesson in a Jupyter kernel that computes on CUDA alone.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from refine_lib.device import describe, pick_device
from refine_lib.networks.lama import LamaGenerator
from refine_lib.pyramid import level_sizes
from refine_lib.result import work_of
from refine_lib.workshop.baseline import Baseline
from refine_lib.workshop.costs import ALONE, EXACT, MIXED, NETWORKS, OURS, POLYAK, THEIRS, measure
from refine_lib.workshop.work import Machine

ROOT = Path(__file__).parent.parent.parent  # of a clone, where tests and notebooks are
NEEDED = ("pytest", "kornia", "ipykernel", "ipywidgets", "nbclient", "nbconvert")  # of the extras [lab,test]
KERNEL = "refine-lib-one-device"
GB = 2**30
TRAINED = ("mini-lama", 512)  # px; whose losses say something: those of random weights hardly depend on z


@dataclass(frozen=True)
class Finding:
    """A line of the table: what was looked at, what is wanted, what was found; ``met`` is None where nothing is to be said."""

    what: str
    wanted: str
    found: str
    met: bool | None = None


def losses_of(row):
    """What a benchmark's row of a trained network says of the losses: a list of ``Finding``."""
    where, found = f"{row.network}, {row.size} px", []
    for who, wanted, most in ((MIXED, "within 2%", 0.02), (POLYAK, "not higher", None)):
        if who in row.losses and EXACT in row.losses:
            off = row.losses[who] / row.losses[EXACT] - 1
            met = off <= 0 if most is None else abs(off) <= most
            found.append(Finding(f"{where}: last loss of {who} beside exact", wanted, f"{off:+.1%}", met))
    return found


def costs_of(rows):
    """What the rows of a benchmark, smallest size first, say of seconds and bytes: a list of ``Finding``."""
    found, first = [], rows[0]
    for who, wanted in ((OURS, "at most 0.25"), (MIXED, "at most 0.25"), (POLYAK, "")):
        if who in first.seconds and THEIRS in first.seconds:
            ratio = first.seconds[who] / first.seconds[THEIRS]
            what = f"{first.network}, {first.size} px: time of {who} beside the authors'"
            found.append(Finding(what, wanted, f"{ratio:.2f}", ratio <= 0.25 if wanted else None))
    for row in rows:
        seconds, memory = row.seconds[OURS], row.peak_memory[OURS] / GB
        limited = row.size == 2048
        said = Finding(
            f"{row.network}, {row.size} px: completes",
            "within 12 GB" if limited else "yes",
            f"{seconds:.1f} s, {memory:.1f} GB ({row.speed})",
            memory <= 12 if limited else True,
        )
        found.append(said)
    per_pixel = [
        row.seconds[OURS] / sum(work_of(level_sizes(row.size, row.size, NETWORKS[row.network]), row.n_iters)) for row in rows
    ]
    if len(rows) > 1:  # of a megapixel of the picture it must grow: a larger picture has more levels
        growth = per_pixel[-1] / per_pixel[0]
        what = f"seconds for a pixel that a pass goes over, {rows[-1].size} beside {first.size} px"
        found.append(Finding(what, "at most 1.3 x", f"{growth:.2f} x", growth <= 1.3))
    return found


def table_of(findings):
    """The findings as a table in Markdown."""
    marks = {True: "yes", False: "NO", None: ""}
    lines = [[line.what, line.wanted, line.found, marks[line.met]] for line in findings]
    lines = [" | ".join(cell.replace("|", "/") for cell in line) for line in lines]
    return "\n".join(["| what | wanted | found | met |", "|---|---|---|---|", *(f"| {line} |" for line in lines)])


def tf32():
    """Where a GPU may compute float32 in the 19 bits of TF32, in words."""
    places = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    return f"TF32 in {' and '.join(name for name, on in places.items() if on) or 'nothing'}"


def run_tests(folder):
    """The GPU tests of the clone: a ``Finding``. What they print goes into ``tests.txt``."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rs",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        str(ROOT / "tests" / "test_gpu.py"),
    ]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # a plugin that cannot be imported would end it all
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone)
    (folder / "tests.txt").write_text(run.stdout + run.stderr)
    summary = _last_line(run.stdout or run.stderr)
    met = run.returncode == 0 and (None if "skipped" in summary else True)
    return Finding("GPU tests", "all pass", summary, met)


def install_kernel(folder, device):
    """Registers a Jupyter kernel that computes on one device alone, in a folder. Returns the environment that finds it."""
    install = [sys.executable, "-m", "ipykernel", "install", "--prefix", str(folder.resolve()), "--name", KERNEL]
    subprocess.run([*install, "--env", "REFINE_DEVICE", str(device)], check=True, capture_output=True)
    places = filter(None, [str(folder.resolve() / "share" / "jupyter"), os.environ.get("JUPYTER_PATH")])
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])  # where the package is not installed
    return os.environ | {"JUPYTER_PATH": os.pathsep.join(places), "PYTHONPATH": os.pathsep.join(paths)}


def run_lesson(path, folder, environment):
    """Runs a lesson in the kernel of ``install_kernel``: a ``Finding``. What goes wrong stands in ``lesson_NAME.txt``."""
    command = [
        sys.executable,
        "-m",
        "refine_lib.workshop.lessons",
        str(path),
        "--figures",
        str(folder / "figures"),
        "--kernel",
        KERNEL,
    ]
    started = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    said = f"{time.perf_counter() - started:.0f} s"
    if run.returncode:
        said = _last_line(run.stderr)
        (folder / f"lesson_{path.stem}.txt").write_text(run.stdout + run.stderr)
    return Finding(f"lesson {path.stem}", "runs to its end", said, run.returncode == 0)


def _last_line(text):
    return (text.strip().splitlines() or ["not a word"])[-1].strip("= ")


class Table:
    """The findings so far, printed and written as they come: what fails later leaves what was found."""

    def __init__(self, path, caption):
        self.path, self.caption, self.findings = path, caption, []

    def add(self, what, find):
        """Adds the findings that a function without arguments returns, or what went wrong in it; says whether nothing did."""
        try:
            new, went_well = find(), True
        except Exception as error:  # whatever it is, the rest goes on
            new, went_well = [Finding(what, "yes", f"{type(error).__name__}: {_last_line(str(error))}", False)], False
        self.findings += new
        print("\n".join(table_of(new).splitlines()[2:]), flush=True)
        self.path.write_text(f"{table_of(self.findings)}\n\n{self.caption}\n")
        return went_well


def main():
    parser = argparse.ArgumentParser(description="Run all that only a GPU can show, and print a short table.")
    parser.add_argument("-o", "--results", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--baseline", type=Path, help="a checkout of advimman/lama, to run the authors' code in alternation")
    parser.add_argument("--only", choices=("tests", "benchmark", "lessons"), help="one of the three (default: all)")
    rehearsal = parser.add_argument_group("to rehearse it elsewhere")
    rehearsal.add_argument("--device", default="cuda", help="(default: %(default)s)")
    rehearsal.add_argument("--network", choices=NETWORKS, default="big-lama", help="(default: %(default)s)")
    rehearsal.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096], help="(default: 1024 2048 4096)")
    rehearsal.add_argument("--n-iters", type=int, default=15, help="(default: %(default)s)")
    rehearsal.add_argument("--runs", type=int, default=3, help="of each row (default: %(default)s)")
    rehearsal.add_argument("--lessons", type=Path, nargs="+", default=sorted((ROOT / "notebooks").glob("0*.ipynb")))
    args = parser.parse_args()
    if args.results.exists():
        parser.error(f"-o is {str(args.results)!r}, which is there already; expected a new name")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"{', '.join(missing)} cannot be imported; install the extras: pip install -e '.[lab,test]'")
    try:
        device = pick_device(args.device)
        if args.baseline:
            Baseline(args.baseline, LamaGenerator(ngf=4, n_blocks=1))  # now, not after the tests
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    args.results.mkdir(parents=True)
    table = Table(args.results / "table.md", f"{args.network}, {args.n_iters} updates a level, {describe(device)}, {tf32()}")

    if args.only in (None, "tests"):
        table.add("GPU tests", lambda: [run_tests(args.results)])
    if args.only in (None, "benchmark"):
        benchmark(table, args, device)
    if args.only in (None, "lessons"):
        environment = install_kernel(args.results, device)
        for path in tqdm(args.lessons, desc="lessons"):
            table.add(f"lesson {path.stem}", lambda path=path: [run_lesson(path, args.results, environment)])
    print(f"\n{table.path.read_text()}\nwrote {args.results.resolve()}")
    sys.exit(any(finding.met is False for finding in table.findings))


def benchmark(table, args, device):
    """A trained network, whose losses count, then the large one by size."""
    machine, rows = Machine.measured(device), []
    wanted = [TRAINED, *((args.network, size) for size in args.sizes)]
    for i, (network, size) in enumerate(wanted):

        def row(network=network, size=size, alone=i > 1):
            runs, only, warm_ups = ALONE if alone else (args.runs, None, 1)
            rows.append(measure(network, size, args.n_iters, runs, device, args.baseline, True, only, warm_ups, machine))
            numbers = dict(machine=asdict(machine), rows=[asdict(row) for row in rows])
            (args.results / "speed.json").write_text(json.dumps(numbers, indent=1))
            return losses_of(rows[0]) if len(rows) == 1 else []

        if not table.add(f"{network}, {size} px: completes", row):
            break
    if rows[1:]:
        table.add("costs", lambda: costs_of(rows[1:]))


if __name__ == "__main__":
    main()
