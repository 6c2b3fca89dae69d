"""The work of an evaluation: every picture with every kind of hole, filled by every method, measured and written down."""

import re
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm.auto import tqdm

from refine_lib.checks import check_integer
from refine_lib.device import describe, pick_device
from refine_lib.evaluate.cluster import check_workers, computed_by_workers
from refine_lib.evaluate.measures import choose_features, feature_networks, features_of, measures_of, seen_in
from refine_lib.evaluate.methods import Case, forget_networks, parse_method
from refine_lib.evaluate.pictures import find_pictures, settle, settled, write_png
from refine_lib.evaluate.rows import TRUTH, Key, Rows
from refine_lib.evaluate.tables import Table
from refine_lib.photos.pixels import to_image, to_pixels
from refine_lib.scenes.brushes import KINDS


class NotFid(UserWarning):
    """FID and LPIPS cannot be computed, and an embedded feature network stands in: the message says why."""


@dataclass(frozen=True)
class Settings:
    """What all rows of a folder have in common."""

    size: int = 1024  # px, a side of the pictures
    seed: int = 0  # of the holes
    features: str = "inception"  # of refine_lib.evaluate.measures.NAMES


@dataclass(frozen=True)
class Task:
    """A picture and a kind of hole, to be filled by some methods; without methods the features of the picture itself."""

    picture: object
    kind: str
    methods: tuple
    kept: bool  # whether what is filled is wanted as a picture too

    def empty_rows(self):
        """A row for each method, without what is to be found."""
        same = dict(picture=self.picture.name, kind=self.kind, error="")
        return [same | {"method": name} for name in [method.name for method in self.methods] or [TRUTH]]

    def keys(self):
        """The key of each row."""
        return [Key.of(self.picture, self.kind, method) for method in self.methods] or [Key.of(self.picture)]


def evaluate(
    images,
    output,
    masks=tuple(KINDS),
    methods=("plain:big-lama", "refined:big-lama"),
    size=1024,
    seed=0,
    features="auto",
    limit=None,
    keep=4,
    workers=0,
    scheduler=None,
    device=None,
    retry=False,
    progress=True,
):
    """Fills the pictures' holes with every method, measures each, and makes the table.

    The same call goes on where an earlier one stopped; one with further methods, pictures or kinds of hole adds them. A
    picture, a result made elsewhere or a file of weights that has changed since is computed anew.

    Args:
        images: as in ``find_pictures``: a folder, files, or ``"scenes:64"``.
        output: a folder for ``rows/`` (a Parquet file for each picture, kind and method), ``pictures/`` and ``settings.json``.
        masks: kinds of hole, of ``"thin"``, ``"medium"``, ``"thick"``.
        methods: words for ``parse_method``, or objects as ``refine_lib.evaluate.methods`` describes them.
        size: a side of the pictures in pixels: the largest square in the middle of a photo, made smaller. The paper's is 1024.
        seed: of the holes. A picture's holes follow from the seed and its name.
        features: ``"inception"`` for FID, KID and LPIPS; ``"scenes"`` for the embedded network in their place; ``"auto"``
            for the first where it can be had, and for a folder that was begun for what it was begun with.
        limit: the most pictures that are taken, or None.
        keep: of how many of the first pictures what is filled is kept when it is computed, in
            ``output/pictures/METHOD/KIND/NAME.png``.
        workers: processes of this machine that work beside each other, each with its own GPU where there are GPUs; 0 works
            in this process.
        scheduler: the address of a Dask scheduler whose workers do the work, as ``tcp://10.0.0.1:8786``. They need this
            package, and files by the same paths.
        device: as in ``load_network``; of each worker its own.
        retry: whether rows that hold an error are tried again.
        progress: whether to show a progress bar.

    Returns:
        A ``Table``.

    Raises:
        ValueError, TypeError, FileNotFoundError, ModuleNotFoundError, RuntimeError: where an argument is not as above, or
            something that it needs is missing; before any work is done.
        ConnectionError: where the scheduler goes away.

    Warns:
        NotFid: where ``"auto"`` does not give FID and LPIPS.
    """
    kinds, methods = _checked(masks, methods, size, seed, keep, workers)
    if workers or scheduler:
        check_workers(workers, scheduler, device)
    pictures, output = find_pictures(images, limit, without=output), Path(output)
    features = settled(output).get("features", features) if features == "auto" else features
    features, why = choose_features(features, "cpu" if workers or scheduler else pick_device(device))
    if why:
        warnings.warn(f"neither FID nor LPIPS is computed: {why}", NotFid, stacklevel=2)
    for method in methods if not scheduler else ():
        method.ready("cpu" if workers else device)
    if workers:
        forget_networks()  # each worker has its own
    settings = Settings(size, seed, features)
    settle(asdict(settings), output)
    keys = [Key.of(p, kind, method) for p in pictures for kind in kinds for method in methods] + [Key.of(p) for p in pictures]
    rows = Rows(output / "rows")
    if retry:
        rows.forget_errors(keys)
    tasks = list(_tasks(pictures, kinds, methods, rows, keep))
    left = sum(len(task.keys()) for task in tasks)

    started = time.perf_counter()
    if workers or scheduler:
        found = computed_by_workers(tasks, settings, workers, scheduler, device)
    else:
        found = ((task, [row]) for task in tasks for row in compute(task, settings, device))
    with tqdm(total=len(keys), initial=len(keys) - left, desc="evaluating", unit="row", disable=not progress) as bar:
        for task, some in found:
            by_method = {key.method: key for key in task.keys()}
            for row in some:
                pixels = row.pop("pixels", None)
                if pixels is not None:
                    write_png(to_image(pixels), picture_path(output, row["method"], row["kind"], task.picture))
                rows.write(by_method[row["method"]], row)
                bar.update()
    names = [method.name for method in methods]
    return Table(rows.read(keys), settings, names, kinds, why, left, time.perf_counter() - started)


def _checked(masks, methods, size, seed, keep, workers):
    """The kinds of hole and the methods, as lists; raises where a setting is wrong."""
    for name, value, least in (("size", size, 16), ("seed", seed, 0), ("keep", keep, 0), ("workers", workers, 0)):
        check_integer(value, name, {"size": "pixels", "workers": "processes", "keep": "pictures"}.get(name, "a number"))
        if value < least:
            raise ValueError(f"{name} is {value!r}; expected {least} or more")
    kinds = [masks] if isinstance(masks, str) else list(masks)
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(KINDS):
        raise ValueError(f"masks are {kinds}; expected some of {', '.join(map(repr, KINDS))}, each once")
    methods = [methods] if isinstance(methods, str) else list(methods)
    methods = [parse_method(method) if isinstance(method, str) else method for method in methods]
    names = [method.name for method in methods]
    if not names or len({_folder_of(name) for name in names}) < len(names):
        raise ValueError(f"methods are {names}; expected one or more, each once and with a name of its own")
    return kinds, methods


def _tasks(pictures, kinds, methods, rows, keep):
    """What is still to be done, picture by picture."""
    for i, picture in enumerate(pictures):
        if Key.of(picture) not in rows:
            yield Task(picture, "", (), i < keep)
        for kind in kinds:
            missing = tuple(method for method in methods if Key.of(picture, kind, method) not in rows)
            if missing:
                yield Task(picture, kind, missing, i < keep)


_networks = {}  # feature networks of this process


def compute(task, settings, device=None):
    """Yields the row of each method of a task. A picture that cannot be read and a method that fails give rows with the error.

    Rows are dictionaries with the names of ``rows.SCHEMA``, and ``pixels``, (H, W, 3), where they are to be kept.

    Raises:
        FileNotFoundError, ImportError, RuntimeError: what is wrong with this machine, and not with a picture: the device, a
            network or a file is not there.
    """
    clock, where = _Clock(), pick_device(device)
    if (settings.features, where) not in _networks:
        _networks[settings.features, where] = feature_networks(settings.features, where)
    networks = _networks[settings.features, where]
    empty = [row | {"made_with": describe(where)} for row in task.empty_rows()]
    clock.lap()
    try:
        truth = task.picture.load(settings.size)
        if task.methods:
            mask = task.picture.hole(task.kind, settings.size, settings.seed)
            case = Case(task.picture, task.kind, truth * (1 - mask), mask)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever is wrong with a picture is said in its rows, and the others go on
        yield from (row | {"error": _in_words(error)} for row in empty)
        return
    truth = truth.to(where)
    if not task.methods:
        other = clock.lap()
        found = dict(features=features_of(networks, truth), measure_seconds=clock.lap(), other_seconds=other)
        yield empty[0] | found | {"pixels": to_pixels(truth) if task.kept else None}
        return
    mask, seen = mask.to(where), seen_in(networks, truth)
    for method, row in zip(task.methods, empty, strict=True):
        row |= dict(hole_share=mask.mean().item(), other_seconds=clock.lap())
        method.ready(device)
        clock.lap()
        try:
            filled, row["note"] = method.fill(case, device)
            filled = filled.cpu()
            seconds = clock.lap()
            if not filled.isfinite().all():
                raise FloatingPointError("what is filled is not finite")
            filled = to_image(to_pixels(filled)).to(where)  # measured as it would be saved
            row["other_seconds"] += clock.lap()
            row |= measures_of(networks, filled, truth, mask, seen)
            row |= dict(seconds=seconds if method.timed else None, measure_seconds=clock.lap())
            if task.kept:
                row["pixels"] = to_pixels(filled)
        except Exception as error:  # and likewise with a method
            row["error"] = _in_words(error)
        row["other_seconds"] += clock.lap()
        yield row


class _Clock:
    def __init__(self):
        self._last = time.perf_counter()

    def lap(self):
        """Seconds since the last lap."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def _in_words(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def picture_path(output, method, kind, picture):
    """Where the picture of a row is kept."""
    return Path(output) / "pictures" / _folder_of(method) / kind / picture.file_name


def _folder_of(method):
    """A method's name as that of a folder; of results made elsewhere their label alone."""
    way, _, rest = method.partition(":")
    return re.sub(r"[^\w.=+-]+", "-", f"{way}-{rest.partition(':')[0]}" if way == "folder" else method)[-100:]
