"""The larger canvas of a photo that is extended, whose new area is to be filled."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from refine_lib.checks import LARGEST_SIDE, as_integer, in_short
from refine_lib.photos import exif
from refine_lib.photos.deep import as_image
from refine_lib.photos.files import Photo

FALLS_WITH_DISTANCE = "The photo was extended. Quality falls with the distance from what was there."


def as_extent(extend: Any) -> tuple[int, ...]:
    """``extend`` as four whole numbers of pixels; None stands for four zeros."""
    wanted = "expected four whole numbers of pixels, (top, right, bottom, left)"
    given = (0, 0, 0, 0) if extend is None else extend
    if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str | bytes) or len(given) != 4:
        raise ValueError(f"extend is {in_short(extend)}; {wanted}")
    return tuple(as_integer(n, "extend", "pixels at each side", most=LARGEST_SIDE) for n in given)


def extended(photo: Photo, extend: Sequence[int]) -> Photo:
    """The photo with a border of (top, right, bottom, left) pixels, which repeats its edge. EXIF data tell the new size.

    Raises:
        ValueError: where it would have more pixels than a picture that is read may have.
    """
    top, right, bottom, left = extend
    width, height = photo.size[0] + left + right, photo.size[1] + top + bottom
    most = 2 * (Image.MAX_IMAGE_PIXELS or np.inf)
    if width * height > most:
        given = f"extend is {tuple(extend)}, which makes {photo.name} {width} px wide and {height} px high"
        raise ValueError(f"{given}; expected at most {most / 1e6:.0f} million pixels, or it could not be read again")
    pixels = np.asarray(photo.image)
    border = ((top, bottom), (left, right), (0, 0))
    image = as_image(np.pad(pixels, border[: pixels.ndim], mode="edge"))
    return replace(photo, image=image, notes=photo.notes | {"exif": exif.upright(photo.notes["exif"], (width, height))})
