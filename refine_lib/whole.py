"""Files that are there whole or not at all, whatever is interrupted, killed or full."""

import functools
import os
import platform
import re
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

# A part's name says who writes it, so that another process can tell whether it is still written.
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
PART = re.compile(r"\.(?:([0-9a-f]{8})-(\d{1,9})-)?[0-9a-f]{32}\.part")
FORGOTTEN_SECONDS = 3600  # without a change, after which nothing writes to a part any more, whatever machine it is of


@contextmanager
def whole_file(path: str | os.PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Gives a path to write to. At the end its file takes the name ``path``. Where something goes wrong, it is removed.

    The path lies in the same folder, which must be there. What killed processes have left in that folder is removed.

    Args:
        path: the file's name.
        overwrite: whether a file that has this name at the end is replaced.

    Raises:
        FileExistsError: where there is such a file at the end, and it is not to be replaced.
        OSError: where the file cannot be written. It says so of ``path``.
    """
    path = Path(path)
    part = path.with_name(f".{MACHINE}-{os.getpid()}-{uuid.uuid4().hex}.part")
    _tidied(path.parent.absolute())
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())  # before its name says that it is there
        if overwrite:
            os.replace(part, path)
        else:
            _take_free_name(part, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part)):  # not of this file
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Removes the parts that killed processes have left in a folder, and no others. What cannot be removed stays."""
    for path in Path(folder).glob(".*.part"):
        found = PART.fullmatch(path.name)
        with suppress(OSError):
            forgotten = time.time() - path.lstat().st_mtime > FORGOTTEN_SECONDS
            if found and (forgotten or found[1] == MACHINE and not psutil.pid_exists(int(found[2]))):
                path.unlink()


_tidied = functools.cache(remove_leftovers)  # of each folder once, because to look through a large one takes time


def _take_free_name(part, path):
    """Gives a file a name that must be free. At no time is there a part of the file under that name."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without such links, that of a memory card for one
        open(path, "xb").close()
        try:
            os.replace(part, path)
        except BaseException:
            path.unlink()  # empty: an interruption, too, leaves none
            raise
