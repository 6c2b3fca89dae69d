"""Pictures opened from files: by known formats only, and with what is wrong said in words."""

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from typing import IO, Any, TypeAlias, cast

from PIL import Image

from refine_lib.checks import in_short

Source: TypeAlias = str | os.PathLike | IO[bytes] | Image.Image


class Unfit(ValueError):
    """A picture can be read, but not be taken as it is. The message names its file, what it has and what is wanted."""


def name_of(source: Source) -> str:
    """What a picture is called in messages."""
    if isinstance(source, str | os.PathLike):
        return str(source)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or "the file")


@contextmanager
def opened(source: Source, formats: tuple[str, ...], argument: str, wanted: str) -> Iterator[Image.Image]:
    """Opens a picture where it is not opened yet.

    Args:
        formats: Pillow's names of those that are taken.
        argument, wanted: what the message says where the source is a path and there is no such file.

    Raises:
        FileNotFoundError: where there is no such file.
        TypeError: where it is neither a path nor a file nor a picture.
        ValueError: where it is no picture of these formats, or a damaged one.
    """
    is_path = isinstance(source, str | os.PathLike)
    if is_path and not os.path.isfile(source):
        raise FileNotFoundError(f"{argument} is {in_short(os.fspath(source))}; expected {wanted}")
    if not (is_path or isinstance(source, Image.Image) or hasattr(source, "read")):
        raise TypeError(f"{argument} is a {type(source).__name__}; expected {wanted}, such a file opened, or a Pillow image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of over 89 MP: large, but taken
            warnings.filterwarnings("ignore", "Corrupt EXIF data|Truncated File Read")  # said where they are left out
            # By name: Pillow's readers of other formats run programs of the machine, or follow the name of an opened file.
            with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source, formats=formats) as file:
                yield file
    except (Unfit, MemoryError):
        raise
    except Exception as error:  # not a picture, one that ends too early, one of over 179 MP, or what else a decoder trips over
        raise ValueError(f"{name_of(source)} cannot be read as a picture: {error}") from error


def tags_of(file: Image.Image) -> Image.Exif:
    """What Pillow understands of the EXIF data, which it keeps in ``file``. Of damaged data this is little or nothing.

    Raises:
        OSError: where the pixels are damaged.
    """
    file.load()  # first: Pillow's search for the tags loads a PNG, too, and what fails the first time passes the second
    try:
        return file.getexif()
    except Exception:  # whatever it trips over
        return file.getexif()


class Patient:
    """A stream of the console that may be closed, or full: what it does not take is dropped, and the work goes on."""

    def __init__(self, stream: Any):
        self.stream = stream if stream is not None else open(os.devnull, "w")

    def write(self, text: str) -> int:
        return self._tried(lambda: self.stream.write(text)) or len(text)

    def flush(self) -> None:
        self._tried(lambda: self.stream.flush())

    def _tried(self, do):
        try:
            return do()
        except (OSError, ValueError):  # the second where it is closed
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())  # where Python, too, writes at the process's end
            self.stream = open(os.devnull, "w")

    def __getattr__(self, name):
        return getattr(self.stream, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Lets a command print any name to any console: a letter that it does not have as its number, as in ``\\xe9``."""
    streams = Patient(sys.stdout), Patient(sys.stderr)
    for stream in streams:
        if isinstance(stream.stream, io.TextIOWrapper):
            stream.stream.reconfigure(errors="backslashreplace")
    with redirect_stdout(cast(Any, streams[0])), redirect_stderr(cast(Any, streams[1])):
        try:
            yield
        finally:
            for stream in streams:
                stream.flush()
