"""The hole of a photo: read from a picture of it, from an array, or from what was erased from the photo itself."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import scipy.ndimage
from PIL import ImageOps

from refine_lib.checks import in_short
from refine_lib.photos.files import Photo
from refine_lib.photos.formats import ALL_FORMATS, DEEP, check_single
from refine_lib.photos.opened import Source, Unfit, name_of, opened, tags_of

TOLD_BY_ONE = (
    "expected white on black without transparency, one bright color on transparent ground, or the photo, or a ground of one"
    " color, from which the hole was erased"
)
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")  # what is 1 in them may be noise
COLORED = 64, 0.01  # of 255, how far the channels of a pixel are apart; of a mask, how many such pixels make it colored
ROUNDED = 8  # of 255: what a drawing program rounds is one color


@dataclass(frozen=True, eq=False)
class Hole:
    """What a mask says.

    Attributes:
        share: (H, W), float32 in [0, 1]: how white it is.
        message: a sentence where the hole is what was erased from a mask. Else it is empty.
    """

    share: np.ndarray
    message: str = ""


def read_hole(mask: Source | np.ndarray | None, photo: Photo | None = None, invert: bool = False) -> Hole:
    """Reads a picture of a hole, of any mode, upright; or an array; or what was erased from the photo.

    Args:
        mask: one of these.

            - A path, an opened file or a Pillow image. The hole is what is bright. In a gray picture of 0 and 1 alone, 1 is
              white, unless its format is lossy. With transparency the hole is what is drawn in one bright color on transparent
              ground; or what was erased, where the rest, which is most of it and of its frame, is one color or the photo.
            - A NumPy array, or a file of one, ``.npy``: (H, W), and further axes of length 1. It is bool, integers 0 and 1,
              uint8 up to 255, or fractions in [0, 1].
            - None: the hole is what was erased from the photo, which is opaque but for areas with wholly transparent pixels.
        photo: whose size, or pixels, the mask has. Without one it may have any.
        invert: whether black and white change places. It needs a mask without transparency.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture or array as above, holds several, is not of the photo's size, or does not tell
            whether its colors or its transparency is meant.
    """
    if mask is None and photo is not None:
        return Hole(_of_photo(photo, invert))
    message = ""
    if isinstance(mask, np.ndarray):
        share = _of_array(mask, "mask", photo)
    elif Path(name := name_of(cast(Source, mask))).suffix.lower() == ".npy" and (os.path.isfile(name) or hasattr(mask, "read")):
        is_open, formats = hasattr(mask, "read"), np.lib.format
        try:  # of a path the header alone is read, and never a pickle
            array = formats.read_array(mask, allow_pickle=False) if is_open else formats.open_memmap(mask, mode="r")
        except Exception as error:  # whatever NumPy trips over
            raise ValueError(f"{name} cannot be read as an array: {error}") from error
        share = _of_array(array, name, photo)
    else:
        share, message = _of_picture(mask, photo, invert)
    return Hole(1 - share if invert else share, message)


def _of_photo(photo, invert):
    """How far a photo was erased."""
    own = np.atleast_3d(np.asarray(photo.image))
    share = _erased(own[..., -1]) if own.shape[2] in (2, 4) else None
    if share is None or invert:
        given = "invert is True" if invert else f"{photo.name} has no area that is wholly transparent, in what is opaque else"
        raise ValueError(f"there is no mask, and {given}; expected a mask, or a photo with an erased area")
    return share


def _of_array(array, name, photo):
    """How white an array is. Its size is compared before its numbers are read."""
    plane = np.asarray(array).squeeze()
    if plane.ndim != 2 or plane.dtype.kind not in "biuf":
        raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}; expected numbers of shape (H, W)")
    _check_size(plane, photo)
    full = 255 if plane.dtype == np.uint8 and plane.max() > 1 else 1
    if not ((plane >= 0) & (plane <= full)).all():
        given = f"values of type {plane.dtype} between {plane.min()} and {plane.max()}"
        raise ValueError(f"{name} has {given}; expected bool, integers 0 and 1, uint8 up to 255, or fractions in [0, 1]")
    return plane.astype(np.float32) / full


def _of_picture(mask, photo, invert):
    """How white a picture is, and a sentence where its transparency says so."""
    name, full = name_of(mask), 255
    with opened(mask, ALL_FORMATS, "mask", "the path of a picture, white where the hole is") as file:
        check_single(file, name)
        if file.mode in ("I", "F"):
            raise Unfit(f"{name} has pixels of mode {file.mode}, whose white is unknown; expected 8 or 16 bits a channel")
        tags_of(file)  # once, so that damaged ones do not hinder
        upright = ImageOps.exif_transpose(file)
        drawn = np.asarray(upright.convert("RGBA")) if upright.has_transparency_data else None
        pixels = np.asarray(upright if upright.mode in DEEP else upright.convert("L"))
    _check_size(pixels, photo)
    if drawn is not None and (np.ptp(drawn[..., 3]) or not drawn[..., 3].any()):
        if invert:
            raise ValueError(f"{name} has transparency, and invert is True; expected a mask without, black where the hole is")
        return _of_transparency(drawn, name, photo)
    if upright.mode in DEEP:
        full = 65535
    if upright.mode in ("L", "LA", *DEEP) and file.format not in LOSSY and pixels.max() == 1:
        full = 1
    apart = np.ptp(np.asarray(upright.convert("RGB")), axis=2) if upright.mode in ("P", "RGB", "RGBA") else np.zeros(1)
    colored = (apart > COLORED[0]).mean() > COLORED[1]
    return pixels.astype(np.float32) / full, f"{name} has colors: what is bright in it was taken for the hole." * bool(colored)


def _of_transparency(drawn, name, photo):
    """As ``_of_picture``, of pixels (H, W, 4) some of which are transparent.

    What is drawn and what is erased may look alike. A ground that was erased from is most of the picture and of its frame. In
    a bright color, in which holes are drawn, it is the whole frame.
    """
    colors, alpha = drawn[..., :3], drawn[..., 3]
    if not alpha.any():  # nothing is drawn
        return alpha.astype(np.float32), ""
    opaque, shown = alpha > 127, colors[alpha > alpha.max() / 2]
    frame = np.concatenate([opaque[0], opaque[-1], opaque[:, 0], opaque[:, -1]])
    is_one, is_bright = np.ptp(shown, axis=0).max() <= ROUNDED, shown.max() > 127
    is_ground = opaque.mean() > 0.5 and frame.mean() > 0.5 and (frame.all() or not (is_one and is_bright))
    if is_one and is_bright and opaque.mean() <= 0.5 and frame.mean() <= 0.5:
        return alpha.astype(np.float32) / 255, ""
    if is_ground and (is_one or _is_of(photo, colors, alpha == 255)) and (share := _erased(alpha)) is not None:
        return share, f"The hole is what was erased from {name}."
    given = "is opaque and dark, or opaque for the most part" if is_one else "has several colors and transparency"
    raise Unfit(f"{name} {given}: what is drawn could be the hole, or what was erased; {TOLD_BY_ONE}")


def _is_of(photo, colors, opaque):
    """Whether a mask has a photo's colors where it is opaque. One that is transparent itself tells nothing."""
    own = np.atleast_3d(np.asarray(photo.image)) if photo else colors[:0]
    if own.dtype != np.uint8 or own.shape[:2] != opaque.shape or own.shape[2] in (2, 4) and own[..., -1].min() < 255:
        return False
    own = own[..., : 1 if own.shape[2] < 3 else 3][opaque]  # gray, or colors
    return np.abs(colors[opaque].astype(np.int16) - own).max() <= ROUNDED


def _erased(alpha):
    """How transparent the erased areas of an opaque picture are, as ``Hole.share``. None where it is no such picture.

    Each area that is not opaque has a wholly transparent pixel; what is partly transparent is the rim that a soft brush leaves.
    """
    full = np.iinfo(alpha.dtype).max
    areas, n = cast(tuple[np.ndarray, int], scipy.ndimage.label(alpha < full, np.ones((3, 3))))
    if n == 0 or alpha.max() < full or np.unique(areas[alpha == 0]).size < n:
        return None
    return (full - alpha).astype(np.float32) / full


def _check_size(plane, photo):
    """Raises unless a mask, (H, W), is of a photo's size."""
    size, wanted = plane.shape[::-1], np.asarray(photo.image).shape[1::-1] if photo else plane.shape[::-1]
    if size != wanted:
        given = "mask is {} px wide and {} px high, {} is {} px wide and {} px high".format(*size, photo.name, *wanted)
        turned = " when it is turned upright, as its EXIF data say; expected a mask of the upright photo"
        raise ValueError(given + (turned if size == photo.stored_size else "; expected the same"))


def check_two(photo: Source, mask: Source | np.ndarray | None) -> None:
    """Raises where a photo is given as its own mask."""
    are_files = all(isinstance(source, str | os.PathLike) and os.path.isfile(source) for source in (photo, mask))
    if photo is mask or are_files and os.path.samefile(cast(str, photo), cast(str, mask)):
        wanted = "expected another picture, white where the hole is, or no mask where the hole was erased from the photo"
        raise ValueError(f"mask is {name_of(cast(Source, mask))}, the photo itself; {wanted}")


def check_soft(soft_mask: bool, invert: bool, threshold: float, dilation: int, soft_edge: float) -> None:
    """Raises unless the first two are True or False, and the others are those by default where the mask is soft."""
    for name, value in (("soft_mask", soft_mask), ("invert", invert)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {in_short(value)}; expected True or False")
    for name, value, default in (("threshold", threshold, 0.5), ("dilation", dilation, 0), ("soft_edge", soft_edge, 0)):
        if soft_mask and value != default:
            raise ValueError(
                f"soft_mask is True and {name} is {value}; expected {default}, as the mask's own gray is the blend"
            )


def blended(new: np.ndarray, old: np.ndarray, hole: np.ndarray, share: np.ndarray | float, alpha: np.ndarray | None):
    """New pixels, (H, W) or (H, W, 3), laid over old ones in a hole.

    Args:
        share: of the new ones, (H, W) or one number.
        alpha: of the old ones, (H, W) uint8: what is transparent does not show. None where they are opaque.
    """
    share = np.broadcast_to(share, hole.shape)
    rim = hole & (share < 1)
    kept = (1 - share[rim].astype(float)) * (1 if alpha is None else alpha[rim] / np.iinfo(alpha.dtype).max)
    kept = kept.reshape(-1, *[1] * (new.ndim - 2))
    mixed = new.copy()
    mixed[rim] = ((1 - kept) * new[rim] + kept * old[rim]).round()
    return mixed
