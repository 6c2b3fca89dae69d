"""The folder of an evaluation: with what settings it was begun, and what stands in the way of its files."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from refine_lib.whole import whole_file

NUMBERS = ("size", "seed")  # that the settings of every folder have


def settle(settings: dict[str, Any], folder: Path) -> None:
    """Writes settings down in a folder, or compares them with those that it was begun with.

    Raises:
        OSError: where they cannot be written.
        ValueError: where they differ, or as in ``settled``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not settled(folder):
        with suppress(FileExistsError), whole_file(folder / "settings.json", overwrite=False) as part:
            part.write_text(json.dumps(settings, indent=1))
    found = settled(folder)  # those of another run that has begun the folder at the same time, maybe
    for name, value in settings.items():
        if found.get(name) != value:
            before = f"{name} is {value!r}, and {str(folder)!r} was begun with {found.get(name)!r}"
            raise ValueError(f"{before}; expected the same, or another folder")


def settled(folder: Path) -> dict[str, Any]:
    """The settings that a folder was begun with; empty where it was not.

    Raises:
        OSError: where they cannot be read.
        ValueError: where ``settings.json`` is not what an evaluation has written.
    """
    path = folder / "settings.json"
    if not path.is_file():
        return {}
    content = path.read_bytes()
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict) and all(type(found.get(name)) is int for name in NUMBERS):
            return found
    begun = "the settings of an evaluation, its size and seed among them; choose another folder, or move this file away"
    raise ValueError(f"{str(path)!r} begins with {content[:20]!r}; expected {begun}")


def check_free(paths: Iterable[Path]) -> None:
    """Raises unless files can be written to all paths: nothing is there but files, and the folders can be made or written to.

    Raises:
        FileExistsError, NotADirectoryError, PermissionError: where something is in the way. It names that.
    """
    paths = list(paths)
    for folder in sorted({path.parent for path in paths}):
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not there.is_dir():
            raise NotADirectoryError(f"{str(there)!r} is no folder; expected one or nothing there, for what is to be written")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(f"the folder {str(there)!r} cannot be written to; expected one that can")
    for path in paths:
        if os.path.lexists(path) and not path.is_file():
            what = "a folder" if path.is_dir() else "no file"
            raise FileExistsError(f"{str(path)!r} is {what}; expected a file or nothing there, for what is to be written")
