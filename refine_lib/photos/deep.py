"""Colors of 16 bits a channel, for which Pillow has no mode. It reads the upper byte of each, and here the lower one, too."""

import re
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from refine_lib.photos.opened import stream_of, tags_of

MODES = ("RGB;16", "RGBA;16")  # what they are called here, beside Pillow's modes
LAYOUT = re.compile(r"(RGBA?;16)([BLN])")  # of the bytes in a file, as Pillow names it: the upper byte first, last, or as here
SWAPPED = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}


def lower_bytes(file: Any) -> np.ndarray | None:
    """The lower byte of each channel (H, W, 3 or 4), upright, of an opened picture. None of others, or where it is loaded."""
    if not _layouts(file):
        return None
    with stream_of(file) as stream, Image.open(stream, formats=(file.format,)) as low:
        low.tile = [_swapped(tile, match) for tile, match in zip(low.tile, _layouts(low), strict=True)]
        tags_of(low)
        return np.asarray(ImageOps.exif_transpose(low))


def _layouts(file):
    """How the bytes lie in each part of a picture. Empty where it has no such colors."""
    found = [
        LAYOUT.fullmatch(str(tile.args if isinstance(tile.args, str) else tile.args[0])) for tile in getattr(file, "tile", ())
    ]
    return found if all(found) else []


def _swapped(tile, match):
    layout = match[1] + SWAPPED[match[2]]
    return tile._replace(args=layout if isinstance(tile.args, str) else (layout, *tile.args[1:]))


def as_image(pixels: np.ndarray) -> Image.Image | np.ndarray:
    """Pixels as ``Photo.image`` has them: a Pillow image, but an array where colors have 16 bits a channel."""
    return pixels if pixels.ndim == 3 and pixels.dtype == np.uint16 else Image.fromarray(pixels)
