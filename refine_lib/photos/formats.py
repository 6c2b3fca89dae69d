"""The formats of photo files: which there are, what each holds, and what Pillow's reader and writer need to be told."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, JpegImagePlugin

from refine_lib.photos import deep, png, tiff
from refine_lib.photos.opened import Unfit, stream_of

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
        modes: that it holds, Pillow's and those of ``deep``. A format without modes is only read.
        largest_side: that it holds, in pixels.
        colors: whether it holds a gamma or primaries without a color profile.
        details: from an opened file, what only this format has: what ``options`` wants of it, and ``depth``, the bits a
            channel, where Pillow's mode may not tell them.
        options: for the writer, from a ``Photo`` and a quality or None, beside the photo's notes and in place of them.
        save: the writer, where it is not Pillow's.
        several: Pillow's name of such a file with further pictures, of which the first is taken.
        photos: whether photos are taken in it, or masks only.
    """

    name: str
    suffixes: tuple[str, ...]
    modes: tuple[str, ...] = ()
    largest_side: float = inf
    colors: bool = False
    details: Callable[[Any], dict[str, Any]] = lambda file: {}
    options: Callable[["Photo", int | None], dict[str, Any]] = lambda photo, quality: {}
    save: Callable[..., None] | None = None
    several: str = ""
    photos: bool = True


def _jpeg_details(file):
    return {"qtables": file.quantization, "subsampling": max(JpegImagePlugin.get_sampling(file), 0)}  # -1: unknown


def _jpeg_options(photo, quality):
    tables = photo.details.get("qtables") if quality is None else None
    return {"subsampling": photo.details.get("subsampling", 0)} | (
        {"qtables": tables} if tables else {"quality": quality or HIGH}
    )


def _webp_details(file):
    with stream_of(file) as stream:
        kind = re.search(rb"VP8[ L]", stream.read())  # the name of the pixels' chunk
    return {"lossy": bool(kind) and kind[0] == b"VP8 "}


def _webp_options(photo, quality):
    lossy = {"quality": quality or HIGH} if quality or photo.details.get("lossy") else {"lossless": True}
    return lossy | {"exact": True}  # the colors under what is transparent, too


def _avif_details(file):
    with stream_of(file) as stream:
        bits = (stream.read().partition(b"av1C")[2] + bytes(3))[2]  # of the box that tells how the pixels are coded
    depth = 8 if not bits & 0x40 else 12 if bits & 0x20 else 10
    return {"depth": depth, "subsampling": {8: 1, 12: 2}.get(bits & 12, 0)}


def _avif_options(photo, quality):
    return {"subsampling": SUBSAMPLINGS[photo.details.get("subsampling", 0)], "quality": quality or HIGH}


def _heif_details(file):
    subsampling = SUBSAMPLINGS.index(":".join(str(file.info.get("chroma", 420))))
    return {"depth": file.info.get("bit_depth", 8), "subsampling": subsampling}


def _heif_options(photo, quality):
    chroma = SUBSAMPLINGS[photo.details.get("subsampling", 2)]  # 2: phones show no other
    return {"chroma": int(chroma.replace(":", "")), "quality": quality or HIGH}


def _save_heif(image, file, **options):
    image = Image.fromarray(np.asarray(image))  # without notes of its own, which would be written where an option is empty
    image.save(file, "HEIF", **{key: value for key, value in options.items() if value})


def _has(name, module):
    """Whether Pillow reads and writes a format with the module that registers it, where there is one."""
    with suppress(ImportError):
        getattr(import_module(module), "register_heif_opener", lambda: None)()
    return name in Image.OPEN and name in Image.SAVE


EIGHT_BITS = ("L", "LA", "RGB", "RGBA")
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")  # of colors, by Pillow's numbers for a JPEG
HIGH = 95  # of 100, where no quality is given: a file is up to twice as large as the photo's, and little changes

# A new format is a row here.
FORMATS = (
    Format("JPEG", (".jpg", ".jpeg"), ("L", "RGB"), 65500, False, _jpeg_details, _jpeg_options, several="MPO"),
    Format("PNG", (".png",), (*EIGHT_BITS, "I;16", *deep.MODES), inf, True, png.details, png.options, png.save),
    Format("TIFF", (".tif", ".tiff"), (*EIGHT_BITS, "I;16", *deep.MODES), inf, False, tiff.details, tiff.options, tiff.save),
    Format("WEBP", (".webp",), EIGHT_BITS, 16383, False, _webp_details, _webp_options),
    Format("BMP", (".bmp",)),
    Format("GIF", (".gif",)),
    Format("PPM", (".pbm", ".pgm", ".ppm"), photos=False),  # Pillow rounds a deep one to 8 bits
)
if _has("AVIF", "PIL.AvifImagePlugin"):  # since Pillow 11.3
    FORMATS += (Format("AVIF", (".avif",), EIGHT_BITS, 32768, False, _avif_details, _avif_options),)
if _has("HEIF", "pillow_heif"):
    FORMATS += (Format("HEIF", (".heic", ".heif"), EIGHT_BITS, 16384, False, _heif_details, _heif_options, _save_heif),)
ENDINGS = {suffix: format for format in FORMATS if format.modes for suffix in format.suffixes}  # that can be written
ALL_FORMATS = tuple(format.name for format in FORMATS)
PHOTO_FORMATS = tuple(format.name for format in FORMATS if format.photos)


def check_single(file: Any, name: str) -> None:
    """Raises where a file holds several pictures."""
    if file.format not in {f.several for f in FORMATS} and getattr(file, "n_frames", 1) > 1:
        raise Unfit(f"{name} holds {file.n_frames} pictures, pages or an animation; expected one: save it by itself first")
