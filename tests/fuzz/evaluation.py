"""Damage to a folder of results. A further run must give the right table, or a kind error that leaves all as it was.

``cases`` yields what can be done to a folder, and ``try_case`` does it to a copy of one that ``finished`` has made.
"""

import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from refine_lib.evaluate import Table, evaluate
from refine_lib.evaluate.__main__ import main

Damage = Callable[[Path], None]
KIND = (ValueError, TypeError, OSError, ModuleNotFoundError, RuntimeError)  # what ``evaluate`` may raise
RESULT = ("picture", "kind", "method", "hole_share", "l1", "psnr", "ssim", "perceptual", "features", "error")
WORDS = ["scenes:2", "--masks", "thick", "--methods", "telea", "--size", "64", "--features", "scenes"]
OUTPUTS = ("table.md", "table.tex", "table.csv", "rows.parquet", "methods_thick.png")
SECONDS = 20  # after which a run hangs


def again(folder: Path) -> Table:
    """The run that made the folder, once more."""
    return evaluate("scenes:2", folder, "thick", "telea", size=64, features="scenes", progress=False)


def finished(folder: Path) -> Table:
    """Makes a finished folder of results."""
    table = again(folder)
    main([*WORDS, "-o", str(folder)])
    return table


def cases(rng: random.Random) -> Iterator[tuple[str, Damage]]:
    """Names and functions that damage a finished folder of results; drawn anew with each generator of random numbers."""
    for name, text in SETTINGS.items():
        yield f"settings: {name}", lambda folder, text=text: _write(folder / "settings.json", text)
    for what in ("row", "kept picture"):
        for name, change in BYTES.items():
            yield f"{what}: {name}", _of_one(what, rng.random(), lambda path, c=change: _write(path, c(path.read_bytes(), rng)))
    for name, change in ROWS.items():
        yield f"row: {name}", _of_one("row", rng.random(), lambda path, c=change: pq.write_table(c(pq.read_table(path)), path))
    for name, change in PICTURES.items():
        yield f"kept picture: {name}", _of_one("kept picture", rng.random(), change)
    places = ["settings.json", "rows", "pictures", "pictures/telea", "pictures/telea/thick", "pictures/truth", *OUTPUTS]
    for name, thing in THINGS.items():
        for place in places:
            yield f"{place}: {name}", lambda folder, place=place, thing=thing: _replace(folder / place, thing)
        for what in ("row", "kept picture"):
            yield f"{what}: {name}", _of_one(what, rng.random(), lambda path, thing=thing: _replace(path, thing))
    yield "all rows are gone", lambda folder: shutil.rmtree(folder / "rows")
    yield "all pictures are gone", lambda folder: shutil.rmtree(folder / "pictures")
    yield "other files lie about", _other_files


def try_case(made: Path, table: Table, damage: Damage, folder: Path) -> str:
    """Damages a copy of a finished folder and runs the evaluation again. Returns what came of it, in words.

    Args:
        made, table: from ``finished``.
        damage: of ``cases``.
        folder: where the copy goes; it must not be there.

    Raises:
        AssertionError: where the outcome is neither the right table nor a kind error.
    """
    shutil.copytree(made, folder, symlinks=True)
    damage(folder)
    before = _contents(folder)
    said, errors = [], []
    for run in (lambda: again(folder), lambda: main([*WORDS, "-o", str(folder)])):
        try:
            with _no_hang(), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = run()
            said += [str(one.message) for one in caught]
        except SystemExit as error:  # the command has said what is wrong
            errors.append(error)
        except KIND as error:
            assert not type(error).__module__.startswith("pyarrow"), f"not in our words: {error!r}"
            assert folder.name in str(error), f"does not say where: {error!r}"
            errors.append(error)
        else:
            assert found is None or found.rows.select(RESULT).equals(table.rows.select(RESULT)), "another table"
    after = _contents(folder)
    if errors:
        assert len(errors) == 2 and isinstance(errors[1], SystemExit), f"once an error and once none: {errors}"
        assert after == before, f"an error, and yet {set(before.items()) ^ set(after.items())} changed"
        return f"{type(errors[0]).__name__}: {errors[0]}"
    assert before["settings.json"] == after.get("settings.json"), "the settings were written over"
    for path in (made / "pictures").rglob("*.png"):
        Image.open(folder / path.relative_to(made)).load()
    assert all((folder / name).is_file() for name in OUTPUTS)
    assert not list(folder.rglob(".*.part"))
    return "; ".join(said) or "as it was"


def _write(path, content):
    path.write_bytes(content)


def _replace(path, thing):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    thing(path)


def _of_one(what, share, change):
    """Damage to one of the rows or kept pictures; ``share`` in [0, 1) says which."""

    def damage(folder):
        paths = sorted((folder / "rows").iterdir() if what == "row" else (folder / "pictures").rglob("*.png"))
        change(paths[int(share * len(paths))])

    return damage


def _flipped(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _other_files(folder):
    for place in (folder, folder / "rows", folder / "pictures", folder / "pictures" / "telea"):
        (place / "notes.txt").write_text("mine")
        (place / ".hidden.part").write_text("mine")
        (place / "folder.parquet").mkdir()
        (place / "\udcff\n.png").write_bytes(b"mine")
        (place / ".hidden.part").unlink()


def _contents(folder):
    """What lies in a folder, by name: a file's bytes, or what else it is."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink()
        else path.read_bytes() if path.is_file()
        else "folder" if path.is_dir() else "other"
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


@contextmanager
def _no_hang():
    def late(*_):
        raise AssertionError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


SETTINGS = {
    "empty": b"",
    "null": b"null",
    "a list": b"[1]",
    "a number": b"1",
    "a text": b'"size"',
    "no settings": b"{}",
    "one setting": b'{"size": 64}',
    "a size that is text": b'{"size": "64", "seed": 0, "features": "scenes"}',
    "unknown features": b'{"size": 64, "seed": 0, "features": "vgg"}',
    "features that are a list": b'{"size": 64, "seed": 0, "features": ["scenes"]}',
    "a fraction": b'{"size": 64.5, "seed": 0, "features": "scenes"}',
    "truth for a number": b'{"size": 64, "seed": false, "features": "scenes"}',
    "not a number": b'{"size": NaN, "seed": 0, "features": "scenes"}',
    "more settings": b'{"size": 64, "seed": 0, "features": "scenes", "more": 1}',
    "another's": b'{"editor.fontSize": 12, "files.exclude": {}}',
    "cut off": b'{"size": 64, "se',
    "nested": b"[" * 100_000,
    "a long number": b'{"size": ' + b"9" * 10_000 + b"}",
    "bytes": bytes(range(256)),
    "UTF-16": '{"size": 64}'.encode("utf-16"),
}
BYTES = {
    "empty": lambda data, rng: b"",
    "junk": lambda data, rng: rng.randbytes(1000),
    "zeros": lambda data, rng: bytes(len(data)),
    "cut off": lambda data, rng: data[: rng.randrange(len(data))],
    "its head is missing": lambda data, rng: data[rng.randrange(1, len(data)) :],
    "longer": lambda data, rng: data + rng.randbytes(100),
    **{f"bits flipped {i}": _flipped for i in range(6)},
    "a block of zeros": lambda data, rng: data[: (i := rng.randrange(len(data)))] + bytes(100) + data[i + 100 :],
}
ROWS = {
    "another's table": lambda row: pa.table({"a": [1, 2], "b": ["x", "y"]}),
    "twice": lambda row: pa.concat_tables([row, row]),
    "no line": lambda row: row.slice(0, 0),
    "of another picture": lambda row: row.set_column(0, "picture", pa.array(["another"])),
    "a name of no text": lambda row: row.set_column(0, "picture", pa.array([None], pa.string())),
    "a number of text": lambda row: row.set_column(row.column_names.index("l1"), "l1", pa.array(["low"])),
    "whole numbers": lambda row: row.set_column(row.column_names.index("ssim"), "ssim", pa.array([1])),
    "no error": lambda row: row.set_column(row.column_names.index("error"), "error", pa.array([None], pa.string())),
    "features that are few": lambda row: _with_features(row, [1.0, 2.0]),
    "features that are none": lambda row: _with_features(row, None),
    "features that are not finite": lambda row: _with_features(row, [float("nan")] * 48),
    "features that are missing": lambda row: _with_features(row, [None] * 48),
    **{f"without {name}": lambda row, name=name: row.drop_columns([name]) for name in ("picture", "error", "features", "note")},
}
PICTURES = {
    "another size": lambda path: Image.new("RGB", (32, 32)).save(path),
    "a line": lambda path: Image.new("RGB", (64, 1)).save(path),
    "16 bits": lambda path: Image.new("I;16", (64, 64)).save(path),
    "a text": lambda path: path.write_text("no picture"),
    "a picture of another format": lambda path: Image.new("RGB", (64, 64)).save(path, "PDF"),
}
THINGS = {
    "a folder": lambda path: path.mkdir(),
    "a full folder": lambda path: (path.mkdir(), (path / "mine.txt").write_text("mine")),
    "a pipe": lambda path: os.mkfifo(path),
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an empty file": lambda path: path.write_bytes(b""),
}


def _with_features(row, features):
    return row.set_column(row.column_names.index("features"), "features", pa.array([features], pa.list_(pa.float32())))
