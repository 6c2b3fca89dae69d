"""Tries random cases of a kind for some seconds: ``python -m fuzz photos --seconds 60 --failures FOLDER``, in tests/.

A case that fails, or that the process does not survive, stays in the folder as small files. The same seed gives the same cases.
"""

import argparse
import atexit
import collections
import contextlib
import functools
import importlib
import io
import itertools
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

SECONDS_A_CASE = 60  # many of them on a machine that does other things too
MEMORY = 12 << 30  # of addresses: torch's libraries take some of it


def tried(kind, name, case, folder):
    """What became of a case, in a few words."""
    if kind == "weights":
        path = folder / name
        path.write_bytes(*case)
        from fuzz.weights import try_case

        return try_case(path) or "loaded or refused"
    module = importlib.import_module(f"fuzz.{kind}")
    if kind == "evaluation":
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return module.try_case(*results(), *case, folder / "damaged").partition(":")[0][:40]
    outcome = module.try_case(name, *case) if kind == "networks" else module.try_case(*case, folder)
    return outcome if len(outcome) < 40 else "refused"


@functools.cache
def results():
    """A finished evaluation, which every case damages a copy of."""
    from fuzz.evaluation import finished

    made = Path(tempfile.mkdtemp()) / "results"
    atexit.register(shutil.rmtree, made.parent)
    return made, finished(made)


class Overdue(BaseException):  # which nothing takes for an error of its own
    """A case took too long."""


def overdue(*_):
    raise Overdue(f"it took over {SECONDS_A_CASE} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", help="a module of this package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--failures", type=Path, required=True)
    parser.add_argument("--again", type=Path, help="a case that failed, to be tried alone")
    args = parser.parse_args()
    kind = importlib.import_module(f"fuzz.{args.kind}")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, overdue)
    torch.set_num_threads(1)
    if args.again:
        cases = [pickle.loads(args.again.read_bytes())]
    else:
        numbers = random.Random(args.seed)
        cases = (case for _ in itertools.count() for case in kind.cases(numbers))
    args.failures.mkdir(parents=True, exist_ok=True)
    outcomes, n_failed, end = collections.Counter(), 0, time.monotonic() + args.seconds
    for name, *case in cases:
        if time.monotonic() > end:
            break
        kept = args.failures / re.sub(r"[^\w.-]+", "-", f"{args.kind}-{args.seed}-{name}.pickle")
        try:
            kept.write_bytes(pickle.dumps((name, *case)))
        except (AttributeError, TypeError, pickle.PicklingError):  # a function of the case's own: the seed and the name must do
            kept.touch()
        with tempfile.TemporaryDirectory() as folder:
            signal.alarm(SECONDS_A_CASE)
            try:
                outcomes[tried(args.kind, name, case, Path(folder))] += 1
            except (Exception, Overdue):
                n_failed += 1
                kept.with_suffix(".txt").write_text(traceback.format_exc())
                print(f"{kept.stem}: {traceback.format_exc().splitlines()[-1][:300]}", flush=True)
                continue
            finally:
                signal.alarm(0)
        kept.unlink()
    told = ", ".join(f"{what} {n}" for what, n in sorted(outcomes.items(), key=str))
    print(f"{args.kind}, seed {args.seed}: {outcomes.total() + n_failed} cases: {told}, failed {n_failed}")
    return min(n_failed, 1)


if __name__ == "__main__":
    sys.exit(main())
