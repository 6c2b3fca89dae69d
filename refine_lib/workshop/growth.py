"""How the cost of a run grows: with its updates, the threads that compute, the pictures of a batch. And what imports take."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch

from refine_lib.workshop.costs import OURS, THEIRS, contestants, peak_of
from refine_lib.workshop.work import timed

BATCH = 4


@dataclass
class Growth:
    """Pairs of what grew and the cost by who ran: medians of runs in alternation, at one size.

    Attributes:
        size: of a square picture, in pixels.
        seconds_by_updates, seconds_by_threads: of a whole run.
        memory_by_updates: bytes, the most that a run takes beyond what was held before it.
        seconds_by_batch: of ``refine_lib``, for one picture and for ``BATCH`` at once.
        imports: seconds of a new process that imports a module and nothing else, by the module.
    """

    size: int
    seconds_by_updates: list = field(default_factory=list)
    memory_by_updates: list = field(default_factory=list)
    seconds_by_threads: list = field(default_factory=list)
    seconds_by_batch: list = field(default_factory=list)
    imports: dict = field(default_factory=dict)

    def findings(self) -> Iterator[str]:
        """What the numbers say, in sentences. Only relations of times: seconds are of one machine on one day."""
        for what, pairs in (("updates", self.memory_by_updates), ("threads", self.seconds_by_threads)):
            for who in pairs[0][1] if pairs else ():
                costs = [f"{cost[who] / pairs[0][1][who]:.2f} with {n}" for n, cost in pairs if who in cost]
                kind = "memory" if what == "updates" else "seconds"
                yield f"- {self.size} px, {who}: {kind} by {what}: {', '.join(costs)}"
        if self.seconds_by_batch:
            (_, one), (n, many) = self.seconds_by_batch
            yield f"- {self.size} px, a batch of {n}: {many / one:.2f} times the seconds of one picture"
        for module, seconds in self.imports.items():
            yield f"- import {module}: {seconds / self.imports['torch']:.2f} times the seconds of import torch"


def measured_growth(name: str, size: int, n_iters: int, device: torch.device, runs: int = 3, baseline=None) -> Growth:
    """Measures with a network of ``costs.NETWORKS``; arguments as in ``costs.measure``."""
    found = Growth(size)
    counts = sorted({max(1, n_iters // 3), max(1, 2 * n_iters // 3), n_iters})

    def runners(n, batch=1):
        ways, _ = contestants(name, size, n, device, baseline if batch == 1 else None, batch=batch)  # theirs takes one picture
        return {who: ways[who] for who in (OURS, THEIRS) if who in ways}

    def seconds(n, batch=1) -> Callable[[], dict[str, float]]:
        ways = runners(n, batch)
        for run in ways.values():
            run()
        return lambda: {who: timed(run, device)[1] for who, run in ways.items()}

    found.seconds_by_updates = _medians({n: seconds(n) for n in counts}, runs)
    found.memory_by_updates = [
        (n, {who: peak_of(who, name, size, n, device, baseline) for who in runners(n)}) for n in sorted({1, *counts})
    ]
    if device.type == "cpu":
        found.seconds_by_threads = _medians({n: _with_threads(n, seconds(n_iters)) for n in (1, 2)}, runs)
    ways = {batch: seconds(n_iters, batch) for batch in (1, BATCH)}
    found.seconds_by_batch = [(batch, cost[OURS]) for batch, cost in _medians(ways, runs)]
    modules = _medians({module: _import_of(module) for module in ("torch", "refine_lib")}, runs)
    found.imports = {module: cost["s"] for module, cost in modules}
    return found


def _medians(ways: dict, runs: int) -> list:
    """Runs each way in turn: pairs of its name and the medians of what it told."""
    told: dict = {name: [] for name in ways}
    for _ in range(runs):
        for name, run in ways.items():
            told[name].append(run())
    return [(name, {who: statistics.median(cost[who] for cost in costs) for who in costs[0]}) for name, costs in told.items()]


def _with_threads(n, run):
    def do():
        before = torch.get_num_threads()
        torch.set_num_threads(n)
        try:
            return run()
        finally:
            torch.set_num_threads(before)

    return do


def _import_of(module):
    command = [sys.executable, "-c", f"import {module}"]
    return lambda: {"s": timed(lambda: subprocess.run(command, check=True), torch.device("cpu"))[1]}


def pairs_of(costs: Iterable[tuple[int, dict[str, float]]], who: str) -> list[tuple[int, float]]:
    """The pairs of one of those who ran."""
    return [(n, cost[who]) for n, cost in costs if who in cost]
