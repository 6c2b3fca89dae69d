"""The work of an evaluation: every picture with every kind of hole, filled by every method, measured and written down."""

import functools
import importlib.util
import numbers
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from refine_lib.device import describe, pick_device, plainly
from refine_lib.evaluate.folder import check_free, settle, settled
from refine_lib.evaluate.measures import FEATURES, N_FEATURES, choose_features, feature_networks, features_of, measures_of
from refine_lib.evaluate.methods import TRUTH, Case, Method, forget_networks, parse_method
from refine_lib.evaluate.pictures import Picture, Sources, fault_of, find_pictures, write_png
from refine_lib.evaluate.rows import Conditions, Rows, Task, key_of
from refine_lib.evaluate.tables import FILES, Table
from refine_lib.photos.pixels import to_image, to_pixels
from refine_lib.scenes.brushes import KINDS
from refine_lib.whole import remove_leftovers

LARGEST_SIZE = 13_377  # px; Pillow reads no larger square


class NotFid(UserWarning):
    """FID and LPIPS cannot be computed, and an embedded feature network takes their place. The message says why."""


class Damaged(UserWarning):
    """Rows or kept pictures are damaged, and are computed anew. The message names them."""


@plainly
def evaluate(
    images: Sources,
    output: str | Path,
    masks: str | Sequence[str] = tuple(KINDS),
    methods: str | Method | Sequence[str | Method] = ("plain:big-lama", "refined:big-lama"),
    size: int = 1024,
    seed: int = 0,
    features: str = "auto",
    limit: int | None = None,
    keep: int = 4,
    workers: int = 0,
    scheduler: str | None = None,
    device: str | None = None,
    retry: bool = False,
    progress: bool = True,
) -> Table:
    """Fills the pictures' holes with every method, measures each, and makes the table.

    The same call goes on where an earlier one stopped. A call with further methods, pictures or kinds of hole adds them. A
    picture, a result made elsewhere or a file of weights that has changed since is computed anew. So is a row or a kept picture
    that is damaged: the row's file stays, as ``rows/KEY.damaged``. Several runs may work in one folder at a time.

    Args:
        images: as in ``find_pictures``: a folder, files, or ``"scenes:64"``.
        output: a folder for ``rows/`` (a Parquet file for each picture, kind and method), ``pictures/`` and ``settings.json``.
        masks: kinds of hole, of ``"thin"``, ``"medium"``, ``"thick"``.
        methods: words for ``parse_method``, or objects as ``refine_lib.evaluate.methods.Method`` describes them.
        size: a side of the pictures in pixels, 16 to 13377: the largest square in the middle of a photo, made smaller. The
            paper's is 1024.
        seed: of the holes. A picture's holes follow from the seed and its name.
        features: ``"inception"`` for FID, KID and LPIPS; ``"scenes"`` for the embedded network in their place. ``"auto"``
            takes the first where it can be had; a folder that was begun before goes on with what it was begun with.
        limit: the most pictures that are taken, or None.
        keep: of how many of the first pictures the filled ones are kept, in ``output/pictures/METHOD/KIND/NAME.png``. What is
            missing there is computed anew.
        workers: processes of this machine that work beside each other, each with its own GPU where there are GPUs; at most
            four for each core. 0 works in this process.
        scheduler: the address of a Dask scheduler whose workers do the work, as ``tcp://10.0.0.1:8786``. They need this
            package, and files by the same paths.
        device: as in ``load_network``; of each worker its own.
        retry: whether rows that hold an error are tried again.
        progress: whether to show a progress bar.

    Raises:
        ValueError, TypeError, OSError, ModuleNotFoundError, RuntimeError: where an argument is not as above, something that it
            needs is missing, or something in ``output`` is not of an evaluation and in its way; before any work is done.
        OSError: where a file cannot be written. The same call goes on from there.
        ConnectionError: where the scheduler goes away.

    Warns:
        Damaged: where rows or kept pictures are computed anew because they cannot be read, or are others.
        NotFid: where ``"auto"`` does not give FID and LPIPS.
    """
    _check_numbers(size=size, seed=seed, keep=keep, workers=workers)
    kinds, methods = _checked(masks, methods)
    shared = bool(workers or scheduler)
    if shared:
        _check_workers(workers, scheduler, device)
    pictures, output = find_pictures(images, limit, without=output), Path(output)
    begun = settled(output).get("features")
    features = begun if features == "auto" and begun in FEATURES else features
    features, why = choose_features(features, "cpu" if shared else pick_device(device))
    if why:
        warnings.warn(f"neither FID nor LPIPS is computed: {why}", NotFid, stacklevel=3)
    for method in methods if not scheduler else ():
        method.ready("cpu" if workers else device)
    if workers:
        forget_networks()  # each worker has its own
    conditions = Conditions(int(size), int(seed), features)
    fills = {"": [TRUTH], **dict.fromkeys(kinds, methods)}
    tasks = [
        Task(picture, kind, {key_of(picture, kind, method): method for method in some}, i < keep)
        for i, picture in enumerate(pictures)
        for kind, some in fills.items()
    ]
    keys = [key for task in tasks for key in task.methods]
    rows = Rows(output / "rows")
    left = put_right(output, tasks, conditions, retry)
    n_left = sum(len(task.methods) for task in left)

    started, work = time.perf_counter(), functools.partial(compute, conditions=conditions, device=device)
    if shared:
        from refine_lib.evaluate.cluster import computed_by_workers  # with the extra [cluster]

        found = computed_by_workers(work, left, workers, scheduler)
    else:
        found = ((task, [row]) for task in left for row in work(task))
    with tqdm(total=len(keys), initial=len(keys) - n_left, desc="evaluating", unit="row", disable=not progress) as bar:
        for task, some in found:
            for row in some:
                pixels = row.pop("pixels", None)
                if pixels is not None:
                    write_png(to_image(pixels), picture_path(output, row["method"], row["kind"], task.picture))
                rows.write(row.pop("key"), row)
                bar.update()
    names = [method.name for method in methods]
    return Table(rows.read(keys), conditions, names, kinds, why, n_left, time.perf_counter() - started)


def put_right(output: Path, tasks: Sequence[Task], conditions: Conditions, retry: bool = False) -> list[Task]:
    """Makes a folder ready for a run: writes its settings down, and removes what killed runs have left.

    Args:
        output: the folder. It need not be there.
        tasks: all that the folder is to hold.
        retry: whether a row that holds an error is left to do.

    Returns:
        What is left to do: rows that are missing or damaged, and those whose kept picture is.

    Raises:
        OSError, ValueError: where something that is not of an evaluation is in its way. Then nothing is changed.
    """
    rows, left, faults = Rows(output / "rows"), [], []
    of = {key: (task, method) for task in tasks for key, method in task.methods.items()}
    kept = {key: picture_path(output, method.name, task.kind, task.picture) for key, (task, method) in of.items()}
    others = ("settings.json", *FILES, *(f"{name}_{kind}.png" for name in ("methods", "refined") for kind in KINDS))
    check_free([*(output / name for name in others), *map(rows.path, kept), *kept.values()])
    settle(asdict(conditions), output)
    for folder in {output, rows.folder, *(path.parent for path in kept.values())}:
        remove_leftovers(folder)
    for task in tasks:
        methods, wanted = {}, task.kept
        for key, method in task.methods.items():
            row, said = None, dict(picture=task.picture.name, kind=task.kind, method=method.name)
            if key in rows:
                try:
                    row = rows.whole(key, said, N_FEATURES[conditions.features])
                except ValueError as error:
                    faults.append(str(error))
                    os.replace(rows.path(key), rows.path(key).with_suffix(".damaged"))
            if row is None or retry and row["error"]:
                methods[key] = method
            elif not row["error"] and (task.kept or kept[key].is_file()) and (fault := fault_of(kept[key], conditions.size)):
                methods[key], wanted = method, True
                faults += [fault] if kept[key].is_file() else []
        if methods:
            left.append(replace(task, methods=methods, kept=wanted))
    if faults:
        more = f" (and {len(faults) - 1} more)" * (len(faults) > 1)
        warnings.warn(f"what is damaged is computed anew: {faults[0]}{more}", Damaged, stacklevel=4)
    return left


def _check_numbers(**values):
    """Raises unless the numbers are whole and in their ranges."""
    most_of = {"size": LARGEST_SIZE, "workers": 4 * (os.cpu_count() or 1)}
    for name, value in values.items():
        least, most = 16 if name == "size" else 0, most_of[name] if name in most_of else 2**63
        number = int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else -1
        if not least <= number <= most:
            raise ValueError(f"{name} is {value!r}; expected {f'{most} or less' if number > most else f'{least} or more'}")


def _checked(masks, methods):
    """The kinds of hole and the methods, as lists; raises where they are wrong."""
    kinds = [masks] if isinstance(masks, str) else list(masks)
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(KINDS):
        raise ValueError(f"masks are {kinds}; expected some of {', '.join(map(repr, KINDS))}, each once")
    methods = [methods] if isinstance(methods, str) else methods
    methods = [parse_method(method) if isinstance(method, str) else method for method in methods]
    names = [method.name for method in methods]
    folders = {_folder_of(name).casefold() for name in (TRUTH.name, *names)} - {""}
    if not names or len(folders) <= len(names) or any(re.search("[\ud800-\udfff]", name) for name in names):
        raise ValueError(f"methods are {names}; expected one or more, each once and with a name of its own, of Unicode text")
    return kinds, methods


def _check_workers(workers, scheduler, device):
    """Raises unless the work can be given to processes."""
    if importlib.util.find_spec("distributed") is None:
        raise ModuleNotFoundError("workers and scheduler need Dask: pip install 'refine_lib[cluster]'")
    if workers and scheduler:
        raise ValueError(f"workers is {workers} and scheduler {scheduler!r}; expected one: a scheduler has its own workers")
    if device is not None and ":" in str(device):
        raise ValueError(f"device is {device!r}; expected 'cuda' or 'cpu': each worker gets a GPU of its own")


_feature_networks = functools.cache(feature_networks)  # of this process


def compute(task: Task, conditions: Conditions, device: str | None = None) -> Iterator[dict[str, Any]]:
    """Yields the row of each method of a task: a dictionary with the names of ``rows.SCHEMA``.

    It also has ``pixels``, uint8 (H, W, 3), where the picture is to be kept. A picture that cannot be read and a method that
    fails give rows with the error.

    Raises:
        FileNotFoundError, ImportError, RuntimeError: where the device, a network or a file is not there. This is wrong with
            the machine, not with a picture.
    """
    where = pick_device(device)
    networks = _feature_networks(conditions.features, where)
    begun = time.perf_counter()
    try:
        truth = task.picture.load(conditions.size)
        hole = task.picture.hole(task.kind, conditions.size, conditions.seed) if task.kind else torch.zeros_like(truth[:, :1])
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever is wrong with a picture is said in its rows, and the others go on
        yield from task.failed(_told(error), describe(where))
        return
    case = Case(task.picture, task.kind, truth * (1 - hole), hole)
    truth, mask = truth.to(where), hole.to(where)
    for method, row in zip(task.methods.values(), task.failed("", describe(where)), strict=True):
        row |= dict(hole_share=hole.mean().item(), other_seconds=time.perf_counter() - begun)
        method.ready(device)
        started = time.perf_counter()
        try:
            filled, row["note"] = method.fill(case, device)
            filled = filled.cpu()
            filled_at = time.perf_counter()
            if not filled.isfinite().all():
                raise FloatingPointError("what is filled is not finite")
            pixels = to_pixels(filled)
            filled = to_image(pixels).to(where)  # measured as it would be saved
            row |= measures_of(networks, filled, truth, mask) if task.kind else {"features": features_of(networks, filled)}
            row |= dict(seconds=filled_at - started if method.timed else None, measure_seconds=time.perf_counter() - filled_at)
            row["pixels"] = pixels if task.kept else None
        except Exception as error:  # and likewise with a method
            row["error"] = _told(error)
        begun = time.perf_counter()
        yield row


def _told(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def picture_path(output: str | Path, method: str, kind: str, picture: Picture) -> Path:
    """Where the picture of a row is kept."""
    return Path(output) / "pictures" / _folder_of(method) / kind / picture.file_name


def _folder_of(method):
    """A method's name as that of a folder; of results made elsewhere their label alone."""
    way, _, rest = method.partition(":")
    name = re.sub(r"[^\w.=+-]+", "-", f"{way}-{rest.partition(':')[0]}" if way == "folder" else method)
    return name.encode()[-100:].decode(errors="ignore").lstrip(".")
