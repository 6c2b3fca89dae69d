"""Trains an embedded network from drawn pictures, for minutes or for days: ``python -m refine_lib.workshop.train FOLDER``.

The folder holds all that a training is: ``state.ckpt``, ``log.csv``, ``preview.png``. The rate stays, a moving average of the
weights is what is measured, and a run may be stopped and go on at any time. ``--anneal STEPS`` takes a copy of the state and
lets the rate fall to 0: weights fit to be shipped, while the run itself goes on from where it was.
"""

import argparse
import os
import signal
import time
from pathlib import Path

import filelock
import torch
from tqdm.auto import tqdm

from refine_lib.device import pick_device
from refine_lib.workshop.recipes import RECIPES, Recipe
from refine_lib.workshop.sheets import PhotoSheets
from refine_lib.workshop.train_first import stop_between_steps
from refine_lib.workshop.training import Training, write_whole

STOPS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what make training-stop sends


def go_on(
    folder,
    recipe,
    photos=None,
    start=None,
    steps=None,
    minutes=None,
    save_every=600,
    watch_every=2000,
    effect_every=20_000,
    **where,
):
    """Trains in a folder, from the state that lies there or from the beginning, until it is told to stop.

    Args:
        folder: of the training.
        recipe: of ``recipes``. Where the state is of another one, that is an error; a branch has a folder of its own.
        photos, start: as in ``Training``.
        steps, minutes: where it ends, in steps or in minutes of the processor's time in steps; None is never.
        save_every: seconds between two states on disk.
        watch_every: steps between two lines of the log.
        effect_every: steps between two looks at what refinement makes of it at four times the size, a minute each.
        where: ``device`` and ``workers`` of ``Training``.

    Returns:
        The ``Training``. On disk is its state at the end.

    Raises:
        filelock.Timeout: where another process trains in the folder.
        ValueError: where the state there is of another recipe.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / "lock", timeout=0):  # free again when the process ends, however it does
        (folder / "pid").write_text(str(os.getpid()))
        training = Training(recipe, photos, start, **where)
        if (folder / "state.ckpt").exists():
            state = torch.load(folder / "state.ckpt", weights_only=True)
            if state["recipe"] != recipe.as_dict():
                raise ValueError(f"{folder} is a training by {state['recipe']}; expected this recipe, not {recipe.as_dict()}")
            training.go_on_from(state)
        saved = time.monotonic()
        with stop_between_steps(STOPS) as stopped, tqdm(initial=training.pictures, unit=" pictures", mininterval=30) as bar:
            while not (stopped or is_over(training, steps, minutes)):
                training.train_step()
                if training.step % watch_every == 0:
                    training.watch(folder)
                if training.step % effect_every == 0:
                    training.watch_at_4x(folder)
                if training.step % 50 == 0:
                    bar.set_postfix_str(", ".join(f"{k} {v:.4f}" for k, v in training.smooth.items()), refresh=False)
                    training.tell(folder)
                bar.update(training.pictures - bar.n)
                if time.monotonic() - saved > save_every:
                    training.save(folder)
                    saved = time.monotonic()
            training.save(folder)
            training.sheets.end()
    return training


def is_over(training, steps, minutes):
    """Whether a training has come to an end that was set for it."""
    return (steps is not None and training.step >= steps) or (minutes is not None and training.seconds >= 60 * minutes)


def anneal(state, steps, path, photos=None, device="cpu", workers=0, **changes):
    """Takes a copy of a state, lets the rate fall to 0 over some steps, and writes weights fit to be shipped.

    Args:
        state: the path of a ``state.ckpt``, or what ``torch.load`` gives of one.
        steps: of the fall.
        path: of the ``.safetensors`` to write.
        photos, device, workers: as in ``Training``.
        changes: to the recipe, for the fall alone.

    Returns:
        The ``Training`` at the end of the fall.
    """
    state = state if isinstance(state, dict) else torch.load(state, weights_only=True)
    training = Training(Recipe(**state["recipe"]).changed(**changes), photos, device=device, workers=workers)
    training.go_on_from(state)
    for step in tqdm(range(steps), desc="annealing", mininterval=10):
        # An average over what is still to come: the first steps of the fall, at nearly the full rate, are forgotten at its end.
        training.average.horizon = min(training.recipe.horizon, max(100, (steps - step) // 4))
        training.train_step(1 - step / steps)
    training.sheets.end()
    training.export(path)
    return training


def main():
    parser = argparse.ArgumentParser(description="Train an embedded network on drawn pictures.")
    parser.add_argument("folder", type=Path, help="of the training: state, log and preview")
    parser.add_argument("--recipe", choices=RECIPES, default="mini-lama", help="(default: %(default)s)")
    parser.add_argument("--change", nargs="+", default=[], metavar="NAME=VALUE", help="numbers of the recipe, for a trial")
    parser.add_argument("--branch", type=Path, help="the state.ckpt of another training, to begin from a copy of it")
    parser.add_argument("--start", type=Path, help="a .safetensors to begin from")
    parser.add_argument("--photos", type=Path, help="a folder of pictures to train on, in place of drawn ones")
    parser.add_argument("--minutes", type=float, help="of the processor's time, after which it ends (default: never)")
    parser.add_argument("--steps", type=int, help="after which it ends (default: never)")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU, as cuda: then take a batch of 128 (default: cpu)")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw pictures ahead (default: %(default)s)")
    parser.add_argument("--save-every", type=float, default=600, help="seconds between two states (default: %(default)s)")
    parser.add_argument("--anneal", type=int, metavar="STEPS", help="write weights from a copy of the state instead")
    parser.add_argument("-o", "--output", type=Path, help="the .safetensors that --anneal writes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    state, output = args.folder / "state.ckpt", args.output or args.folder / "annealed.safetensors"
    try:
        pick_device(args.device)
    except (RuntimeError, ValueError) as error:
        parser.error(f"argument --device: {error}")
    if args.workers < 0:
        parser.error(f"argument --workers: {args.workers}; expected 0 or more processes")
    if wrong := [word for word in args.change if "=" not in word]:
        parser.error(f"argument --change: {wrong[0]!r}; expected NAME=VALUE, for instance ngf=16")
    if args.anneal is not None and args.anneal < 1:
        parser.error(f"argument --anneal: {args.anneal}; expected 1 or more steps")
    if args.anneal and not state.exists():
        parser.error(f"argument folder: {args.folder} holds no state.ckpt; expected the folder of a training")
    if args.anneal and not output.absolute().parent.is_dir():
        parser.error(f"argument --output: there is no folder {output.parent} to write {output.name} into")
    try:
        changes = dict(word.split("=", 1) for word in args.change) | ({"world": "photos"} if args.photos else {})
        recipe = RECIPES[args.recipe].changed(**changes)
        if args.photos:
            PhotoSheets(args.photos)
        if args.branch:
            branch(args.branch, args.folder, recipe)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    where = {"device": args.device, "workers": args.workers}
    if args.anneal:
        anneal(state, args.anneal, output, args.photos, **where, **changes)
        return
    try:
        go_on(args.folder, recipe, args.photos, args.start, args.steps, args.minutes, args.save_every, **where)
    except filelock.Timeout:
        parser.error(f"argument folder: another process trains in {args.folder}; expected a folder that is free")


def branch(state, folder, recipe):
    """Puts a copy of a state into a new folder, to go on there by another recipe; its seconds begin anew.

    Where the folder holds a branch by this recipe already, that goes on.

    Raises:
        FileExistsError: where the folder holds anything else.
    """
    copy = torch.load(state, weights_only=True)
    if (folder / "state.ckpt").exists():
        if torch.load(folder / "state.ckpt", weights_only=True)["recipe"] == recipe.as_dict():
            return
        raise FileExistsError(f"folder is {folder}, which holds another training; expected a new one for a branch")
    folder.mkdir(parents=True, exist_ok=True)
    copy |= {"recipe": recipe.as_dict(), "log": [], "effects": [], "counters": copy["counters"] | {"seconds": 0.0}}
    write_whole(copy, folder / "state.ckpt")


if __name__ == "__main__":
    main()
