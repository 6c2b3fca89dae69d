"""The trainings as a service: ``make training``, ``make training-stop``, ``make training-status``.

Each network trains in one thread, with the lowest priority, detached, in a folder of the user's cache. It runs from a copy of
the code that lies there too: what changes in the library later changes nothing in a training that goes on for days.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import psutil

import refine_lib
from refine_lib.networks.published import cache_folder
from refine_lib.workshop.recipes import RECIPES

STOP_WITHIN = 120  # seconds, in which a step ends and the state is written


def folder_of(name):
    """Where the training of a network lies: state, log, preview and code."""
    return cache_folder().resolve() / "training" / name


def freeze(folder):
    """Copies the package into the folder, whole or not at all. Where a state is there, the copy that it ran with stays.

    Returns:
        The folder that holds the copy of ``refine_lib``.
    """
    code = folder / "code"
    if not (code.is_dir() and (folder / "state.ckpt").exists()):
        part = folder / "code.part"
        shutil.rmtree(part, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(Path(refine_lib.__file__).parent, part / "refine_lib", ignore=ignored)
        shutil.rmtree(code, ignore_errors=True)
        part.rename(code)
    return code


def locked(folder):
    """For one start, stop or renewal at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder / "service.lock", timeout=2 * STOP_WITHIN)


def process_of(folder):
    """The process that trains in a folder, or None."""
    try:
        process = psutil.Process(int((folder / "pid").read_text()))
        runs = str(folder) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        return None
    return process if runs else None  # a number is given again: another process may have it now


def start(name, extra=()):
    """Starts a training where it does not run, from its state, from the average in the workshop, or from nothing.

    Args:
        name: of ``RECIPES``.
        extra: more words for the command of ``train``.

    Returns:
        What was done, in words.
    """
    folder = folder_of(name)
    with locked(folder):
        return _start(name, folder, extra)


def _start(name, folder, extra):
    if running := process_of(folder):
        return f"{name}: runs already (process {running.pid})"
    code = freeze(folder)
    command = ["nice", "-n", "19", sys.executable, "-m", "refine_lib.workshop.train", str(folder), "--recipe", name, *extra]
    average = code / "refine_lib" / "workshop" / f"{name}.safetensors"
    goes_on = (folder / "state.ckpt").exists()
    if not goes_on and average.exists():
        command += ["--start", str(average)]
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    detached = '"$@" >>"$0" 2>&1 </dev/null & echo $!'  # by a shell, which ends at once: then the system waits for the process
    pid = subprocess.run(
        ["sh", "-c", detached, folder / "output.txt", *command],
        cwd=code,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    (folder / "pid").write_text(pid)
    yield_to_all(pid)
    for _ in range(50):  # while a process turns from the shell into another program it has no command line
        if process_of(folder):
            break
        time.sleep(0.1)
    beginning = f"starts from {average.name}" if average.exists() else "starts from nothing"
    came_from = "goes on from its state" if goes_on else beginning
    return f"{name}: {came_from}, in {folder} (process {pid})"


def yield_to_all(pid):
    """Lets a detached process have only what nobody else uses.

    Where Linux groups processes by their session (sched_autogroup), ``nice`` ranks a process within its own group alone, and
    groups share evenly: a test run beside two trainings got a quarter of the processors. So the group gets the lowest rank too.
    """
    group = Path("/proc") / pid / "autogroup"
    with contextlib.suppress(OSError):  # not Linux, or without such groups: there nice is enough
        group.write_text("19")


def stop(name):
    """Ends a training between two steps, with its state on disk.

    Returns:
        What was done, in words.
    """
    folder = folder_of(name)
    process = process_of(folder)
    if process is None:
        return f"{name}: does not run"
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN
    while process_of(folder):
        if time.monotonic() > deadline:
            return f"{name}: process {process.pid} has not ended within {STOP_WITHIN} s; it will, or is to be killed by hand"
        time.sleep(0.2)
    return f"{name}: stopped at {_count(_now(folder).get('pictures', 0))}"


def status(name):
    """What a training has come to, in words: pictures, speed, figures over time, and where the preview is."""
    lines = 8  # of each table, evenly over the time
    folder = folder_of(name)
    if not (folder / "code").is_dir():
        return f"{name}: not started; make training starts it"
    now = _now(folder)
    told = [f"{name}: {'runs' if process_of(folder) else 'does not run'}"]
    if now:
        ago = (time.time() - now["time"]) / 60
        told[0] += f"; {_count(now['pictures'])}, {now['speed']:.0f} a second of the processor's time"
        told[0] += f", of which drawing takes {now.get('drawing', 0):.0%}; {ago:.0f} min ago"
    for file in ("log.csv", "effect.csv"):
        if (folder / file).exists():
            head, *rows = csv.reader((folder / file).read_text().splitlines())
            shown = [rows[round(i * (len(rows) - 1) / max(lines - 1, 1))] for i in range(min(lines, len(rows)))]
            told += ["", *(_line(row) for row in (head, *(rows if len(rows) <= lines else shown)))]
    if not process_of(folder) and (folder / "output.txt").exists():
        told += ["", "it ended with: " + (folder / "output.txt").read_text().strip().replace("\r", "\n").rpartition("\n")[2]]
    told += ["", *(f"{file.stem}: {file}" for file in (folder / "preview.png", folder / "output.txt") if file.exists())]
    return "\n".join(told)


def renew(name):
    """Lets a training go on with the present code, and the present recipe of its name, from where it stopped.

    Returns:
        What was done, in words.
    """
    import torch

    from refine_lib.workshop.training import Training, write_whole

    folder = folder_of(name)
    with locked(folder):
        if process_of(folder):
            raise ValueError(f"{name} runs; expected it to be stopped before its code is renewed")
        if (folder / "state.ckpt").exists():
            state = torch.load(folder / "state.ckpt", weights_only=True)
            training = Training(RECIPES[name])
            training.go_on_from(state)  # whatever does not fit is found here, while all is as it was
            shutil.rmtree(folder / "code", ignore_errors=True)
            write_whole(training.state(), folder / "state.ckpt")
        freeze(folder)
    return f"{name}: has the present code and recipe"


def keep(name):
    """Writes a training's average, in half precision, into the workshop: from there ``start`` begins where no state is found.

    Returns:
        What was done, in words.
    """
    import torch

    from refine_lib.workshop.recipes import Recipe
    from refine_lib.workshop.training import Training

    state = torch.load(folder_of(name) / "state.ckpt", weights_only=True)
    training = Training(Recipe(**state["recipe"]))
    training.go_on_from(state)
    path = Path(__file__).with_name(f"{name}.safetensors")
    training.export(path)
    return f"{name}: wrote {path}, the average after {_count(training.pictures)}"


def _now(folder):
    try:
        return json.loads((folder / "now.json").read_text())
    except (OSError, ValueError):
        return {}


def _count(pictures):
    return f"{pictures:,} pictures"


def _line(row):
    return "  ".join(f"{word:>14}" for word in row)


DONE = {"start": start, "stop": stop, "status": status, "renew": renew, "keep": keep}


def main():
    parser = argparse.ArgumentParser(description="Start, stop, look at, renew or keep the trainings of the embedded networks.")
    parser.add_argument("what", choices=DONE)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"of {', '.join(RECIPES)} (default: all)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(RECIPES):
        parser.error(f"NETWORK is {', '.join(sorted(unknown))}; expected one of {', '.join(RECIPES)}")
    try:
        for name in args.names or RECIPES:
            print(DONE[args.what](name), flush=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
