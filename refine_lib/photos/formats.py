"""The formats of photo files: which there are, what each holds, and what Pillow's reader and writer need to be told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, JpegImagePlugin
from PIL.ExifTags import Base

from refine_lib.photos import exif, png
from refine_lib.photos.opened import Unfit

if TYPE_CHECKING:
    from refine_lib.photos.files import Photo

# Pillow's modes: what a photo's becomes where nothing in it is transparent, and those of 16-bit gray.
PLAIN = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Format:
    """How files of a format are read and written.

    Attributes:
        name: Pillow's.
        suffixes: of the files' names.
        modes: Pillow's modes that it holds. A format without modes is only read.
        largest_side: that it holds, in pixels.
        colors: whether it holds a gamma or primaries without a color profile.
        details: from an opened file, what only this format has: what ``options`` wants of it, and ``depth``, the bits a
            channel, where Pillow's mode may not tell them.
        options: for Pillow's writer, from a ``Photo``, beside the photo's notes and in place of them.
        several: Pillow's name of such a file with further pictures, of which the first is taken.
        photos: whether photos are taken in it, or masks only.
    """

    name: str
    suffixes: tuple[str, ...]
    modes: tuple[str, ...] = ()
    largest_side: float = float("inf")
    colors: bool = False
    details: Callable[[Any], dict[str, Any]] = lambda file: {}
    options: Callable[["Photo"], dict[str, Any]] = lambda photo: {}
    several: str = ""
    photos: bool = True


def _jpeg_details(file):
    return {"qtables": file.quantization, "subsampling": max(JpegImagePlugin.get_sampling(file), 0)}  # -1: unknown


def _jpeg_options(photo):
    return photo.details if "qtables" in photo.details else {"quality": 95, "subsampling": 0}


def _tiff_details(file):
    return {"depth": max(file.tag_v2.get(Base.BitsPerSample, (1,)))}


def _tiff_options(photo):
    tags = Image.Exif()
    tags.load(photo.notes["exif"])
    tags = exif.without_storage(tags)
    if "xmp" in photo.notes:
        tags[Base.XMLPacket] = photo.notes["xmp"]
    return {"exif": tags, "compression": "raw"}  # Pillow's writer of the others loses the EXIF data


EIGHT_BITS = ("L", "LA", "RGB", "RGBA")
EXACT = {"lossless": True, "exact": True}  # exact: the colors under what is transparent, too

# A new format is a row here.
FORMATS = (
    Format("JPEG", (".jpg", ".jpeg"), ("L", "RGB"), 65500, False, _jpeg_details, _jpeg_options, several="MPO"),
    Format("PNG", (".png",), (*EIGHT_BITS, "I;16"), colors=True, details=png.details, options=png.options),
    Format("TIFF", (".tif", ".tiff"), (*EIGHT_BITS, "I;16"), details=_tiff_details, options=_tiff_options),
    Format("WEBP", (".webp",), EIGHT_BITS, 16383, options=lambda photo: EXACT),
    Format("BMP", (".bmp",)),
    Format("GIF", (".gif",)),
    Format("PPM", (".pbm", ".pgm", ".ppm"), photos=False),  # Pillow rounds a deep one to 8 bits
)
ENDINGS = {suffix: format for format in FORMATS if format.modes for suffix in format.suffixes}  # that can be written
ALL_FORMATS = tuple(format.name for format in FORMATS)
PHOTO_FORMATS = tuple(format.name for format in FORMATS if format.photos)


def check_single(file: Any, name: str) -> None:
    """Raises where a file holds several pictures."""
    if file.format not in {f.several for f in FORMATS} and getattr(file, "n_frames", 1) > 1:
        raise Unfit(f"{name} holds {file.n_frames} pictures, pages or an animation; expected one: save it by itself first")
