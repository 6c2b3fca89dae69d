"""A photo and its mask, whether they fit together, and the larger canvas whose new area is to be filled."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from refine_lib.checks import LARGEST_SIDE, as_integer, in_short
from refine_lib.photos import exif
from refine_lib.photos.files import Photo
from refine_lib.photos.opened import Source, name_of

FALLS_WITH_DISTANCE = "The photo was extended. Quality falls with the distance from what was there."


def as_extent(extend: Any, mask: object) -> tuple[int, ...]:
    """``extend`` as four whole numbers of pixels; None stands for four zeros. Without a mask one must be above 0."""
    wanted = "expected four whole numbers of pixels, (top, right, bottom, left)"
    given = (0, 0, 0, 0) if extend is None else extend
    if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str | bytes) or len(given) != 4:
        raise ValueError(f"extend is {in_short(extend)}; {wanted}")
    pixels = tuple(as_integer(n, "extend", "pixels at each side", most=LARGEST_SIDE) for n in given)
    if mask is None and not any(pixels):
        raise ValueError(f"mask is None and extend {in_short(extend)}; expected a mask, or extend with a number above 0")
    return pixels


def extended(photo: Photo, extend: Sequence[int]) -> Photo:
    """The photo with a border of (top, right, bottom, left) pixels, which repeats its edge. EXIF data tell the new size.

    Raises:
        ValueError: where it would have more pixels than a picture that is read may have.
    """
    top, right, bottom, left = extend
    width, height = photo.image.width + left + right, photo.image.height + top + bottom
    most = 2 * (Image.MAX_IMAGE_PIXELS or np.inf)
    if width * height > most:
        given = f"extend is {tuple(extend)}, which makes {photo.name} {width} px wide and {height} px high"
        raise ValueError(f"{given}; expected at most {most / 1e6:.0f} million pixels, or it could not be read again")
    pixels = np.asarray(photo.image)
    border = ((top, bottom), (left, right), (0, 0))
    image = Image.fromarray(np.pad(pixels, border[: pixels.ndim], mode="edge"))
    return replace(photo, image=image, notes=photo.notes | {"exif": exif.upright(photo.notes["exif"], (width, height))})


def check_two(photo: Source, mask: Source | None) -> None:
    """Raises where the mask is the photo itself."""
    paths = [source for source in (photo, mask) if isinstance(source, str | os.PathLike) and os.path.isfile(source)]
    if mask is not None and (photo is mask or len(paths) == 2 and os.path.samefile(*paths)):
        raise ValueError(f"mask is {name_of(mask)}, the photo itself; expected another picture, white where the hole is")


def check_size(hole: np.ndarray, photo: Photo) -> None:
    """Raises unless a hole, (H, W), has the photo's size."""
    size, wanted = hole.shape[::-1], photo.image.size
    if size == wanted:
        return
    given = "mask is {} px wide and {} px high, {} is {} px wide and {} px high".format(*size, photo.name, *wanted)
    if size == photo.stored_size:
        raise ValueError(f"{given} when it is turned upright, as its EXIF data say; expected a mask of the upright photo")
    raise ValueError(f"{given}; expected the same")
