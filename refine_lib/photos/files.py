"""Photo files with what they say beside their pixels: read so that they can be written again, changed in the hole alone."""

import os
import re
import tempfile
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from refine_lib.checks import SMALLEST_SIDE, in_short
from refine_lib.photos import exif, png
from refine_lib.photos.formats import DEEP, ENDINGS, FORMATS, PHOTO_FORMATS, PLAIN, check_single
from refine_lib.photos.opened import Source, Unfit, name_of, opened, tags_of
from refine_lib.whole import whole_file

# What XMP data show a photo in: a list of small copies, which can be cut out, and others, with which the data are dropped.
THUMBNAILS = re.compile(rb"<((?:[\w.-]+:)?Thumbnails)(?=[\s/>])[^>]*?(?:/>|>.*?</\1\s*>)", re.DOTALL)
SHOWN = (b"Thumbnails", b"GImg:image", b"GImage:Data", b"GDepth:Data", b"/g/img/")


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as its file has it, turned upright.

    Attributes:
        image: its pixels, a Pillow image of mode L, LA, RGB, RGBA or I;16 (16-bit gray).
        name: of the file, for messages.
        stored_size: (width, height) in pixels, before it was turned.
        notes: what the file says beside its pixels, by the names that Pillow's writers have for it: ``exif`` (without the
            orientation), ``xmp`` (without thumbnails), ``icc_profile``, ``dpi``, ``comment`` (of a JPEG or GIF).
        details: what only a file of its format has, as its row of ``FORMATS`` reads it.
        message: a sentence where something that the file says is damaged and left out. Else it is empty.
    """

    image: Image.Image
    name: str
    stored_size: tuple[int, int]
    notes: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    message: str = ""


class LeftOut(UserWarning):
    """What a photo's file says beside its pixels is damaged, and the photo goes on without."""


def read_photo(photo: Source) -> Photo:
    """Reads a photo with what its file says beside its pixels, so that both can be written again.

    That is: EXIF data, XMP data, color profile, resolution, a JPEG's or GIF's comment, a PNG's texts and how it describes its
    colors. These are not kept: a JPEG's IPTC data (its caption), an editor's resources, thumbnails, XMP data with other
    pictures in it, the further pictures of an MPO, what belongs to one format alone (a GIF's loop, a PNG's time), and damaged
    EXIF data, of which ``message`` speaks.

    Args:
        photo: the path of a JPEG, PNG, TIFF, WebP, GIF or BMP, such a file opened to read bytes, or a Pillow image. Of an MPO
            (a JPEG with more pictures behind) the first is taken. A PNG's copy in memory has no texts or gamma.

    Returns:
        A ``Photo``. Black and white (mode 1) becomes gray, a palette its colors.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, or one of which something would be lost: more than one picture, other colors than
            gray and RGB, more than 8 bits a channel in color, or more than 16. Also where it is a PNG that Pillow has loaded,
            whose file cannot be looked at.
    """
    name, message = name_of(photo), ""
    with opened(photo, PHOTO_FORMATS, "photo", "the path of a picture") as file:
        check_single(file, name)
        details = next((f.details(file) for f in FORMATS if file.format in (f.name, f.several)), {})
        _check_kept(file, name, details)
        tags = tags_of(file)
        turned = tags.get(Base.Orientation, 1) > 4  # by a quarter
        upright = ImageOps.exif_transpose(file)
        said = {key: upright.info.get(key) for key in ("xmp", "icc_profile", "dpi", "comment")}
        notes = {key: value for key, value in said.items() if value and not isinstance(value, str)}  # a PNG's text is no note
        if "xmp" in notes:
            notes["xmp"] = without_pictures(notes["xmp"])
        notes = {key: value for key, value in notes.items() if value}
        try:
            notes["exif"] = exif.upright(file.info.get("exif") or exif.of_tags(tags), upright.size)
        except Exception:  # whatever is wrong with them, the picture is there
            notes["exif"] = b""
            message = f"The EXIF data of {name} are damaged and were left out."
    width, height = upright.size
    size = (height, width) if turned else (width, height)
    return Photo(_worked_on(upright), name, size, notes, details, message)


def without_pictures(xmp: bytes) -> bytes:
    """XMP data without the thumbnails, which show what was in the hole. They are empty where they hold other pictures."""
    xmp = THUMBNAILS.sub(b"", xmp)
    plain = xmp.replace(b"\0", b"")  # of two or four bytes a letter
    return b"" if any(name in plain for name in SHOWN) else xmp


def check_output(
    path: str | os.PathLike,
    overwrite: bool = False,
    sources: Iterable[Any] = (),
    name: str = "output",
    endings: Collection[str] = tuple(ENDINGS),
) -> None:
    """Raises unless a photo, or another file, can be written to a path.

    It takes a known ending, a folder that files can be written to, a name with room for ``.stopped`` in it, and no file that is
    there, or ``overwrite``. A source of the work is never replaced, whatever name or link leads to it.

    Args:
        path: to write to.
        overwrite: whether a file that is there may be replaced.
        sources: photos and masks that the work reads. What is no file on disk is passed over.
        name: of the argument, for messages.
        endings: that are known.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} is a {type(path).__name__}; expected a path")
    path, what = Path(path), f"{name} is {in_short(os.fspath(path))}"
    if path.suffix.lower() not in endings:
        raise ValueError(f"{what}; expected a name that ends in one of {', '.join(endings)}")
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"{what}, whose folder is not there; expected one that is")
    if os.path.exists(path) and any(os.path.isfile(one) and path.samefile(one) for one in map(name_of, sources)):
        raise FileExistsError(f"{what}, which is a photo or a mask of the work; expected another name, so that it stays")
    if os.path.lexists(path) and not (overwrite and path.is_file()):
        raise FileExistsError(f"{what}, which is there already; expected a new name, or to overwrite it")
    try:
        with tempfile.TemporaryFile(dir=path.parent), suppress(FileNotFoundError):
            os.lstat(path.with_name(f"{path.stem}.stopped999{path.suffix}"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{what}, where no file can be written ({reason}); expected another place or name") from error


def check_holds(path: str | os.PathLike, photo: Photo) -> None:
    """Raises unless the format of a path's ending holds a photo, and shows it in the same colors."""
    format = ENDINGS[Path(path).suffix.lower()]
    if fault := _not_held(format, photo):
        others = " or ".join(f.suffixes[0] for f in FORMATS if f.modes and not _not_held(f, photo))
        raise ValueError(f"{photo.name} {fault}; expected output to end in {others or 'something else: no format holds it'}")


def _not_held(format, photo):
    """What of a photo a format does not hold, in words; empty where it holds the photo."""
    image = photo.image
    if image.mode not in format.modes:
        names = {"L": "gray pixels", "RGB": "colors"} | dict.fromkeys(DEEP, "16 bits a channel")
        what = names.get(image.mode, "transparency")
    elif max(image.size) > format.largest_side:
        return f"is {image.width} px wide and {image.height} px high, and {format.name} holds {format.largest_side} px"
    elif png.has_own_colors(photo) and not format.colors:
        what = "a gamma or primaries of its own (chunks gAMA, cHRM or cICP)"
    else:
        return _not_written(format, photo)
    return f"has {what}, which {format.name} does not hold"


def _not_written(format, photo):
    """Tries it with a little of the photo: what it says beside its pixels may not fit, or not be read again."""
    file, done = BytesIO(), "written"
    try:
        _save(photo.image.crop((0, 0, 8, 8)), file, format, photo)
        done = "read again when it is written"
        with opened(file, (format.name,), "photo", "a picture") as picture:
            picture.load()
    except Exception as error:  # whatever it trips over, it is now and not when the work is done
        return f"cannot be {done} as {format.name}: {error}"
    return ""


def write_photo(image: Image.Image, path: str | os.PathLike, photo: Photo, overwrite: bool = False) -> None:
    """Writes a picture to a file with what ``read_photo`` kept of a photo's file. The ending says the format.

    Every format takes the EXIF data, XMP data and color profile. None takes all the rest: WebP takes no resolution, only JPEG
    takes a comment, only PNG takes a PNG's texts. A format in which the colors would look otherwise is refused.
    PNG, TIFF and WebP are written without loss. A JPEG is compressed as the photo's own JPEG was, so that it changes least, or
    with quality 95. An interruption or a full disk leaves no file, or the one that was there.

    Args:
        image: a Pillow image.
        photo: a ``Photo``.
        overwrite: whether a file that is there is replaced.

    Raises:
        FileExistsError: where there is such a file and it is not to be replaced.
        ValueError: where the ending is not of such a format, or this does not hold the picture.
        OSError: where it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite, [photo.name])
    check_holds(path, photo)
    content = BytesIO()  # Pillow's own writing to a disk does not say why it fails
    try:
        _save(image, content, ENDINGS[path.suffix.lower()], photo)
        with whole_file(path, overwrite) as part:
            part.write_bytes(content.getbuffer())
    except FileExistsError as error:
        raise FileExistsError(f"output is {str(path)!r}, which came meanwhile; expected a new name") from error
    except OSError as error:
        raise OSError(f"output is {str(path)!r}, which could not be written: {error}") from error


def _save(image, file, format, photo):
    image.save(file, format.name, **photo.notes | format.options(photo))


def _check_kept(file, name, details):
    """Raises unless a photo's pixels can be worked on as they are."""
    tags, deep = getattr(file, "tag_v2", {}), file.mode in DEEP
    depth = details.get("depth", 16 if deep else 8)
    if tags.get(Base.NewSubfileType, 0) & 1:
        raise Unfit(f"{name} begins with a small copy, as a camera's raw files do; develop it first, to TIFF or JPEG")
    if not deep and file.mode not in PLAIN:
        kind = {"I": "32-bit whole numbers", "F": "32-bit fractions"}.get(file.mode, f"{file.mode} colors")
        raise Unfit(f"{name} has {kind}; expected RGB or gray: convert it first")
    if depth > 8 and not (deep and depth == 16):
        raise Unfit(f"{name} has {depth} bits a channel; expected 8, or 16 in gray: save a copy of 8 bits, this one stays")
    if deep and ("transparency" in file.info or tags.get(Base.PhotometricInterpretation) == 0):
        raise Unfit(f"{name} is 16-bit gray with 0 for white, or a transparent value; expected 0 for black and none such")
    if min(file.size) < SMALLEST_SIDE:
        raise Unfit(f"{name} is {file.width} px wide and {file.height} px high; expected at least {SMALLEST_SIDE} px a side")


def _worked_on(image):
    if image.mode in DEEP:
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    return image.convert(PLAIN[image.mode] + "A" * image.has_transparency_data)
