"""Puts new weights into the package, and makes again what shows or says what they do: ``make ship WEIGHTS="mini-lama=FILE"``.

Every lesson and every solution runs, with stored outputs and pictures; then the tables of the model card, Table 1 and the
panel's picture. What is done is noted in ``build/ship``, so that a run that was interrupted goes on. No program rewrites
sentences: at the end stands a list of those whose numbers are no longer printed.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from tqdm.auto import tqdm

from refine_lib.networks import load_network
from refine_lib.networks.registry import WEIGHTS
from refine_lib.whole import whole_file
from refine_lib.workshop import documents

ALONE = ("Table 1", "panel")  # steps that run beside no other
MOST_BYTES = 8_000_000  # of a network that comes with the package
CARD, TABLE1 = "refine_lib/networks/MINI_LAMA.md", "figures/table1.md"
PROSE = ("README.md", "notebooks/slides.md", "refine_lib/evaluate/TABLE1.md", "refine_lib/photos/PHOTOS.md", CARD)
# What a quiet machine has to measure, beside code that is not in this repository.
MEASURED_APART = {
    "refine_lib/fast/SPEED.md": "times and memory beside the authors' code, and the figures there; the commands stand in it",
    "notebooks/TIMES.md": "how long each lesson takes: make times",
    "refine_lib/workshop/NEXT.md": "what is said of the next networks",
}
# A number with a point, or a percentage. Counts and settings are whole numbers, which a new network leaves as they are.
NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\d.]*\w)|(?<![\w.])\d+(?=\s?%)")


def embedded(root):
    """The networks that come with a package: from their names to their files."""
    package = root / "refine_lib" / "networks"
    return {name: package / weights.path.name for name, weights in WEIGHTS.items() if weights.path}


def put(name, source, root):
    """Puts weights into the package, whole or not at all.

    Args:
        name: of a network that comes with the package.
        source: the ``.safetensors``, as ``train --anneal`` writes it.
        root: of the clone.

    Raises:
        OSError, ValueError: where the weights cannot be read, are larger than 8 MB, or no such network comes with the package.
    """
    known = embedded(root)
    if name not in known:
        raise ValueError(f"NETWORK is {name!r}; expected one that comes with the package: {', '.join(known)}")
    if (size := source.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{source} has {size / 1e6:.1f} MB; expected {MOST_BYTES / 1e6:.0f} MB or less")
    load_network(source, "cpu")  # whatever it cannot read is found here, while all is as it was
    with whole_file(known[name]) as part:
        part.write_bytes(source.read_bytes())


def steps(root):
    """What is made again, in this order: from a step's name to its command."""
    lessons = [sys.executable, "-m", "refine_lib.workshop.lessons"]
    done = {}
    for path in _notebooks(root / "notebooks"):
        done[f"lesson {path.stem}"] = [*lessons, f"notebooks/{path.name}", "--figures", "figures", "--store"]
    for path in _notebooks(root / "notebooks" / "solutions"):
        done[f"solution {path.stem}"] = [*lessons, f"notebooks/solutions/{path.name}", "--store"]
    done["model card"] = [sys.executable, "-m", "refine_lib.workshop.documents", CARD]
    done["Table 1"] = ["make", "table1"]
    done["panel"] = ["make", "panel-picture"]
    return done


def shown(path):
    """What programs printed into a file: a notebook's stored outputs, a document's tables, or the whole of Table 1."""
    if path.suffix == ".ipynb":
        return _outputs(nbformat.read(path, as_version=4))
    text = path.read_text(encoding="utf-8")
    return text if path.name == Path(TABLE1).name else "\n".join(documents.printed(text))


def written(path):
    """What people wrote into a file: a notebook's text, or a document without the tables that programs printed."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return documents.prose(path.read_text(encoding="utf-8"))


def stale(text, before, after):
    """The sentences of a text that give a number which was printed before, and is no longer.

    Args:
        text: of people.
        before, after: what programs printed. A number of the text may be rounded from theirs.

    Returns:
        The sentences, each with its numbers: ``(numbers, sentence)``.
    """
    old, new = (set(NUMBER.findall(printed)) for printed in (before, after))
    found = []
    for sentence in re.split(r"(?<=[.:;!?])\s+|\n+", text):
        gone = [n for n in NUMBER.findall(sentence) if _rounds_to(n, old - new) and not _rounds_to(n, new)]
        if gone:
            found.append((gone, sentence.strip()))
    return found


def to_reread(root, before):
    """A list in Markdown of what people have to read again.

    Args:
        root: of the clone.
        before: what ``shown`` gave of each file before the new weights.
    """
    now = {name: shown(root / name) for name in before}
    all_before, all_now = ("\n".join(printed.values()) for printed in (before, now))
    lines = ["# To be read again", "", "A sentence stands here if a number of it was printed before, and is no longer.",
             "What a sentence says without a number, or with one of its own making, is not found."]  # fmt: skip
    for name in [*dict.fromkeys([*before, *PROSE])]:
        if name == TABLE1 or not (root / name).exists():
            continue
        is_lesson = name.endswith(".ipynb")
        old, new = (before[name], now[name]) if is_lesson else (all_before, all_now)
        found = stale(written(root / name), old, new)
        lines += ["", f"## {name}", "", f"What it prints is {'as it was' if before.get(name) == now.get(name) else 'new'}."]
        lines += ["", *(f"- **{', '.join(numbers)}**: {sentence}" for numbers, sentence in found)] if found else []
    lines += ["", "## Not made again", "", *(f"- `{name}`: {what}" for name, what in MEASURED_APART.items())]
    return "\n".join(lines) + "\n"


def _notebooks(folder):
    return sorted(folder.glob("[0-9]*.ipynb"))


def _sums(files):
    """{name: sha256} of files by their names."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def _outputs(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def _rounds_to(number, candidates):
    digits = len(number.partition(".")[2])
    return any(f"{float(candidate):.{digits}f}" == number for candidate in candidates)


def _note(kept, state):
    with whole_file(kept) as part:
        part.write_text(json.dumps(state), encoding="utf-8")


def begin(weights, root):
    """Puts the weights in, or finds that they are.

    Returns:
        What is noted in ``build/ship``: the weights, what was shown before them, and the steps that are done.
    """
    kept = root / "build" / "ship" / "state.json"
    sums = _sums(weights)
    if kept.exists():
        state = json.loads(kept.read_text(encoding="utf-8"))
        there = _sums({name: path for name, path in embedded(root).items() if name in sums})
        if state["weights"] == sums == there:
            return state
    for name in ("table1", "table1_picture"):
        shutil.rmtree(root / "build" / name, ignore_errors=True)  # its rows are the old network's
    files = [*_notebooks(root / "notebooks"), *_notebooks(root / "notebooks" / "solutions")]
    names = [str(path.relative_to(root)) for path in files] + [CARD, TABLE1]
    before = {name: shown(root / name) for name in names if (root / name).exists()}
    state = {"weights": sums, "before": before, "done": []}
    for name, path in weights.items():
        put(name, path, root)
    kept.parent.mkdir(parents=True, exist_ok=True)
    _note(kept, state)
    return state


def ship(weights, root, plan=None, jobs=1):
    """Puts weights into the package and makes everything again that shows them.

    Args:
        weights: from the name of a network that comes with the package to the ``.safetensors`` that takes its place.
        root: of the clone.
        plan: what is made again, as ``steps`` gives it; None is all of it.
        jobs: steps at a time. The last two run alone: Table 1 measures times, and the panel's picture wants a quick page.

    Returns:
        The path of the list of what has to be read again.

    Raises:
        OSError, ValueError: as ``put``.
        subprocess.CalledProcessError: where a step fails. The next call goes on with it.
    """
    state = begin(weights, root)
    todo = {name: command for name, command in (plan or steps(root)).items() if name not in state["done"]}
    together = [name for name in todo if name not in ALONE]
    with tqdm(total=len(todo), desc="ship", unit="step") as bar:

        def make(name):
            print(f"\n{name}: {shlex.join(todo[name])}", flush=True)
            subprocess.run(todo[name], cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
            with bar.get_lock():
                state["done"].append(name)
                _note(root / "build" / "ship" / "state.json", state)
            bar.update()

        with ThreadPoolExecutor(jobs) as pool:  # of threads that wait for processes; a failure cancels those that wait yet
            list(pool.map(make, together))
        for name in todo:
            if name in ALONE:
                make(name)
    path = root / "build" / "ship" / "reread.md"
    path.write_text(to_reread(root, state["before"]), encoding="utf-8")
    return path


def main():
    parser = argparse.ArgumentParser(description="Put weights into the package and make again what shows them.")
    parser.add_argument("weights", nargs="+", metavar="NETWORK=FILE", help="for instance mini-lama=annealed.safetensors")
    parser.add_argument("--jobs", type=int, default=1, help="steps at a time, each on one core (default: %(default)s)")
    args = parser.parse_args()
    words = args.weights
    if args.jobs < 1:
        parser.error(f"argument --jobs: {args.jobs}; expected 1 or more")
    if wrong := [word for word in words if "=" not in word]:
        parser.error(f"argument NETWORK=FILE: {wrong[0]!r}; expected one as mini-lama=annealed.safetensors")
    try:
        path = ship({name: Path(file) for name, file in (word.split("=", 1) for word in words)}, documents.ROOT, jobs=args.jobs)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{shlex.join(error.cmd)} failed; the same command of ship goes on with it")
    print(f"what is to be read again stands in {path}")


if __name__ == "__main__":
    main()
