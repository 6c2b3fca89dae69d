"""Files that are there whole or not at all, whatever is interrupted, killed or full."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Gives a path to write to. At the end its file takes the name ``path``. Where something goes wrong, it is removed.

    The path lies in the same folder, which must be there.

    Args:
        path: the file's name.
        overwrite: whether a file that has this name at the end is replaced.

    Raises:
        FileExistsError: where there is such a file at the end, and it is not to be replaced.
        OSError: where the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())  # before its name says that it is there
        if overwrite:
            os.replace(part, path)
        else:
            _take_free_name(part, path)
    finally:
        part.unlink(missing_ok=True)


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
