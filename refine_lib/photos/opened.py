"""Pictures opened from files: by known formats only, and with what is wrong said in words."""

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from PIL import Image
from PIL.ExifTags import Base

from refine_lib.checks import in_short

Source: TypeAlias = str | os.PathLike | IO[bytes] | Image.Image
# What reads pictures by their ending, where they are not taken as they are: Pillow's name of the format, and where it is had.
HEIF = ("HEIF", "pip install 'refine_lib[photos]'")
READERS = {".avif": ("AVIF", "install Pillow 11.3 or newer, of a wheel"), ".heic": HEIF, ".heif": HEIF}


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
        name, what = name_of(source), error
        format, advice = READERS.get(Path(name).suffix.lower(), (formats[0], ""))
        if format not in formats:
            what = f"{advice}, or save a copy in another format first"
        raise ValueError(f"{name} cannot be read as a picture: {what}") from error


def tags_of(file: Image.Image) -> Image.Exif:
    """What Pillow understands of the EXIF data, which it keeps in ``file``. Of damaged data this is little or nothing.

    An orientation that stands in XMP data alone is left out: Pillow goes by it, too, but browsers and cameras do not.

    Raises:
        OSError: where the pixels are damaged.
    """
    xmp = {key: file.info.pop(key) for key in ("xmp", "XML:com.adobe.xmp") if key in file.info}
    try:
        file.load()  # first: Pillow's search for the tags loads a PNG, too, and here it turns a TIFF, if need be by XMP data
    finally:
        file.info |= xmp
    tags, bare = _exif_of(file), Image.new("1", (1, 1))
    bare.info = {key: value for key, value in file.info.items() if "xmp" not in key}
    if "tiff:Orientation" in f"{file.info.get('xmp')}" and Base.Orientation not in _exif_of(bare):
        tags.pop(Base.Orientation, None)
    return tags


def _exif_of(image):
    with suppress(Exception):  # whatever it trips over the first time, it passes the second
        image.getexif()
    return image.getexif()


@contextmanager
def stream_of(file: Image.Image) -> Iterator[IO[bytes]]:
    """The bytes of an opened picture's file, from the beginning. There are none where Pillow has let go of the file."""
    name, stream = str(getattr(file, "filename", "")), getattr(file, "fp", None)
    if os.path.isfile(name):
        with open(name, "rb") as own:
            yield own
    elif stream is None:
        yield io.BytesIO()
    else:
        place = stream.tell()
        stream.seek(0)
        yield stream
        stream.seek(place)


class Patient:
    """A stream of the console that may be closed, or full: what it does not take is dropped, and the work goes on."""

    def __init__(self, stream: Any):
        self.stream = stream if stream is not None else open(os.devnull, "w")

    def write(self, text: str) -> int:
        return self._tried(lambda: self.stream.write(text)) or len(text)

    def flush(self) -> None:
        self._tried(lambda: self.stream.flush())

    def isatty(self) -> bool:
        return bool(self._tried(lambda: self.stream.isatty()))

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
