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

from refine_lib.checks import SMALLEST_SIDE, as_integer, in_short
from refine_lib.photos import deep, exif, png
from refine_lib.photos.formats import DEEP, ENDINGS, FORMATS, PHOTO_FORMATS, PLAIN, check_single
from refine_lib.photos.opened import READERS, Source, Unfit, name_of, opened, tags_of
from refine_lib.whole import whole_file

# What XMP data show a photo in: a list of small copies, which can be cut out, and others, with which the data are dropped.
THUMBNAILS = re.compile(rb"<((?:[\w.-]+:)?Thumbnails)(?=[\s/>])[^>]*?(?:/>|>.*?</\1\s*>)", re.DOTALL)
SHOWN = (b"Thumbnails", b"GImg:image", b"GImage:Data", b"GDepth:Data", b"/g/img/")
# What they say of the camera's turn.
TURN = re.compile(
    rb"""\s+tiff:Orientation\s*=\s*(?:"[^"]*"|'[^']*')|<(tiff:Orientation)(?=[\s/>])[^>]*?(?:/>|>.*?</\1\s*>)""", re.DOTALL
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as its file has it, turned upright.

    Attributes:
        image: its pixels, a Pillow image of mode L, LA, RGB, RGBA or I;16 (16-bit gray), or, since Pillow has no such mode, an
            array (H, W, 3) or (H, W, 4) of uint16 where colors have 16 bits a channel.
        name: of the file, for messages.
        stored_size: (width, height) in pixels, before it was turned.
        notes: what the file says beside its pixels, by the names that Pillow's writers have for it: ``exif`` (without the
            orientation), ``xmp`` (without thumbnails and orientation), ``icc_profile``, ``dpi``, ``comment`` (of a JPEG).
        details: what only a file of its format has, as its row of ``FORMATS`` reads it.
        message: a sentence where something that the file says is damaged and left out. Else it is empty.
    """

    image: Image.Image | np.ndarray
    name: str
    stored_size: tuple[int, int]
    notes: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    message: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image in pixels."""
        return self.image.shape[1::-1] if isinstance(self.image, np.ndarray) else self.image.size

    @property
    def mode(self) -> str:
        """Pillow's mode of the image, or that of ``deep``."""
        return deep.MODES[self.image.shape[2] - 3] if isinstance(self.image, np.ndarray) else self.image.mode


class LeftOut(UserWarning):
    """What a photo's file says beside its pixels is damaged, and the photo goes on without."""


def read_photo(photo: Source) -> Photo:
    """Reads a photo with what its file says beside its pixels, so that both can be written again.

    That is: EXIF data, XMP data, color profile, resolution, a JPEG's or GIF's comment, a PNG's texts and how it describes its
    colors. These are not kept: a JPEG's IPTC data (its caption), an editor's resources, thumbnails, XMP data with other
    pictures in it, the further pictures of an MPO, what belongs to one format alone (a GIF's loop, a PNG's time), and damaged
    EXIF data, of which ``message`` speaks.

    The photo is turned as browsers turn it: by its EXIF data, and not by an orientation that stands in XMP data alone.

    Args:
        photo: the path of a JPEG, PNG, TIFF, WebP, GIF or BMP, of an AVIF with Pillow 11.3 or newer, of a HEIC with the extra
            ``[photos]``; or such a file opened to read bytes, or a Pillow image. Of an MPO (a JPEG with more pictures behind)
            the first is taken. A PNG's copy in memory has no texts or gamma.

    Returns:
        A ``Photo``. Black and white (mode 1) becomes gray, a palette its colors.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, or one of which something would be lost: more than one picture, other colors than
            gray and RGB, or other depths than 8 bits a channel and 16. Also where Pillow has loaded it, and it is a PNG whose
            file cannot be looked at, or has colors of 16 bits a channel.
    """
    name, message = name_of(photo), ""
    with opened(photo, PHOTO_FORMATS, "photo", "the path of a picture") as file:
        check_single(file, name)
        lower = deep.lower_bytes(file)  # first: what else is read loads it
        details = next((f.details(file) for f in FORMATS if file.format in (f.name, f.several)), {})
        _check_kept(file, name, details, lower)
        details["palette"] = file.mode == "P"
        tags = tags_of(file)
        turned = tags.get(Base.Orientation, 1) > 4  # by a quarter
        upright = ImageOps.exif_transpose(file)
        said = {key: file.info.get(key) for key in ("xmp", "icc_profile", "dpi", "comment")}
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
    return Photo(_worked_on(upright, lower), name, size, notes, details, message)


def without_pictures(xmp: bytes) -> bytes:
    """XMP data without the thumbnails, which show what was in the hole, and without the camera's turn, which is done.

    They are empty where they hold other pictures, or where the turn cannot be cut out.
    """
    xmp = TURN.sub(b"", THUMBNAILS.sub(b"", xmp))
    plain = xmp.replace(b"\0", b"")  # of two or four bytes a letter
    return b"" if any(name in plain for name in (*SHOWN, b"tiff:Orientation")) else xmp


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
    if (ending := path.suffix.lower()) not in endings:
        advice = f"; to write {ending}, {READERS[ending][1]}" if ending in READERS else ""
        raise ValueError(f"{what}; expected a name that ends in one of {', '.join(endings)}{advice}")
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
    width, height = photo.size
    if photo.mode not in format.modes:
        names = {"L": "gray pixels", "RGB": "colors"} | dict.fromkeys((*DEEP, *deep.MODES), "16 bits a channel")
        what = names.get(photo.mode, "transparency")
    elif max(width, height) > format.largest_side:
        return f"is {width} px wide and {height} px high, and {format.name} holds {format.largest_side} px"
    elif png.has_own_colors(photo) and not format.colors:
        what = "a gamma or primaries of its own (chunks gAMA, cHRM or cICP)"
    else:
        return _not_written(format, photo)
    return f"has {what}, which {format.name} does not hold"


def _not_written(format, photo):
    """Tries it with a little of the photo: what it says beside its pixels may not fit, or not be read again."""
    file, done, image = BytesIO(), "written", photo.image
    try:
        part = image[:8, :8] if isinstance(image, np.ndarray) else image.crop((0, 0, 8, 8))
        _save(part, file, format, photo)
        done = "read again when it is written"
        with opened(file, (format.name,), "photo", "a picture") as picture:
            picture.load()
    except Exception as error:  # whatever it trips over, it is now and not when the work is done
        return f"cannot be {done} as {format.name}: {error}"
    return ""


def write_photo(
    image: Image.Image | np.ndarray,
    path: str | os.PathLike,
    photo: Photo,
    overwrite: bool = False,
    quality: int | None = None,
) -> None:
    """Writes a picture to a file with what ``read_photo`` kept of a photo's file. The ending says the format.

    Every format takes the EXIF data, XMP data and color profile. None takes all the rest: WebP takes no resolution, only JPEG
    takes a comment, only PNG takes a PNG's texts. A format in which the colors would look otherwise is refused.
    An interruption or a full disk leaves no file, or the one that was there.

    These are written without loss, each pixel outside the hole as it was. A PNG has a palette where the photo had one and 256
    colors are enough for what is filled, too; else it becomes RGB. A TIFF is compressed with LZW, Deflate or PackBits as the
    photo was, with Deflate in place of others such as JPEG, and not where the photo is no TIFF. A WebP is without loss unless
    the photo is a lossy one.

    The others change all pixels a little, those outside the hole, too. A JPEG is compressed with the photo's own tables where
    that is a JPEG, so that it changes least. A lossy WebP, an AVIF, a HEIC, and a JPEG from another format have quality 95: the
    file may be twice as large as the photo's, and pixels change by about one level of 255 in the mean.

    Args:
        image: a Pillow image, or an array of uint16 as ``Photo.image``.
        photo: a ``Photo``.
        overwrite: whether a file that is there is replaced.
        quality: 1 to 100, of a JPEG, AVIF, HEIC or WebP, which is then lossy. None is what is said above. The rest go without.

    Raises:
        FileExistsError: where there is such a file and it is not to be replaced.
        ValueError: where the ending is not of such a format, this does not hold the picture, or quality is out of range.
        OSError: where it cannot be written.
    """
    path, quality = Path(path), check_quality(quality)
    check_output(path, overwrite, [photo.name])
    check_holds(path, photo)
    content = BytesIO()  # Pillow's own writing to a disk does not say why it fails
    try:
        _save(image, content, ENDINGS[path.suffix.lower()], photo, quality)
        with whole_file(path, overwrite) as part:
            part.write_bytes(content.getbuffer())
    except FileExistsError as error:
        raise FileExistsError(f"output is {str(path)!r}, which came meanwhile; expected a new name") from error
    except (OSError, RuntimeError) as error:  # the second of the writer of HEIC
        raise OSError(f"output is {str(path)!r}, which could not be written: {error}") from error


def check_quality(quality: Any) -> int | None:
    """A quality as an int, or None. Raises where it is neither."""
    return None if quality is None else as_integer(quality, "quality", "", 1, 100)


def _save(image, file, format, photo, quality=None):
    options = photo.notes | format.options(photo, quality)
    if format.save:
        format.save(image, file, **options)
    else:
        image.save(file, format.name, **options)


def _check_kept(file, name, details, lower):
    """Raises unless a photo's pixels can be worked on as they are."""
    tags, gray = getattr(file, "tag_v2", {}), file.mode in DEEP
    depth = details.get("depth", 16 if gray else 8)
    if tags.get(Base.NewSubfileType, 0) & 1:
        raise Unfit(f"{name} begins with a small copy, as a camera's raw files do; develop it first, to TIFF or JPEG")
    if not gray and file.mode not in PLAIN:
        kind = {"I": "32-bit whole numbers", "F": "32-bit fractions"}.get(file.mode, f"{file.mode} colors")
        raise Unfit(f"{name} has {kind}; expected RGB or gray: convert it first")
    if depth > 8 and not (depth == 16 and (gray or lower is not None)):
        wanted = "expected 8 or 16 (colors of 16 bits: the path of a PNG or TIFF): save a copy of 8 bits, this one stays"
        raise Unfit(f"{name} has {depth} bits a channel; {wanted}")
    if depth == 16 and ("transparency" in file.info or tags.get(Base.PhotometricInterpretation) == 0):
        raise Unfit(f"{name} has 16 bits a channel and 0 for white, or a transparent value; expected 0 for black and none such")
    if min(file.size) < SMALLEST_SIDE:
        raise Unfit(f"{name} is {file.width} px wide and {file.height} px high; expected at least {SMALLEST_SIDE} px a side")


def _worked_on(image, lower):
    if lower is not None:
        return np.asarray(image) * np.uint16(256) + lower
    if image.mode in DEEP:
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    return image.convert(PLAIN[image.mode] + "A" * image.has_transparency_data)
