"""The hole of a photo, read from a picture of it."""

import numpy as np
from PIL import ImageOps

from refine_lib.photos.formats import ALL_FORMATS, DEEP, check_single
from refine_lib.photos.opened import Source, Unfit, name_of, opened, tags_of

ERASED = "what is drawn could be the hole, or what was erased"
TOLD_BY_ONE = "expected white on black without transparency, or one bright color on transparent ground"


def read_hole(mask: Source, threshold: float = 0.5) -> np.ndarray:
    """Reads a picture of a hole, of any mode, upright.

    Args:
        mask: a path, an opened file or a Pillow image. Where something is drawn in one bright color on transparent ground, that
            is the hole. Else the hole is what is bright.
        threshold: brighter (or more opaque) than this share of the full range is hole.

    Returns:
        (H, W), bool: True in the hole.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, holds several, or does not tell whether its colors or its transparency is meant: a
            hole may have been erased from it.
    """
    name = name_of(mask)
    with opened(mask, ALL_FORMATS, "mask", "the path of a picture, white where the hole is") as file:
        check_single(file, name)
        if file.mode in ("I", "F"):
            raise Unfit(f"{name} has pixels of mode {file.mode}, whose white is unknown; expected 8 or 16 bits a channel")
        tags_of(file)  # once, so that damaged ones do not hinder
        upright = ImageOps.exif_transpose(file)
        if upright.mode in DEEP:
            return np.asarray(upright) > threshold * 65535
        if not upright.has_transparency_data:
            return np.asarray(upright.convert("L")) > threshold * 255
        drawn = upright.convert("RGBA")
    pixels = np.asarray(drawn)
    alpha = pixels[..., 3]
    if alpha.min() == alpha.max():
        return np.asarray(drawn.convert("L")) > threshold * 255
    opaque, shown = alpha > threshold * 255, pixels[alpha > alpha.max() / 2][:, :3]
    if np.ptp(shown, axis=0).max() > 8:  # of 255: what a drawing program rounds is one color
        raise Unfit(f"{name} has several colors and transparency, either of which could be the hole; {TOLD_BY_ONE}")
    frame = np.concatenate([opaque[0], opaque[-1], opaque[:, 0], opaque[:, -1]])
    if shown.max() <= threshold * 255 or opaque.mean() > 0.5 or frame.mean() > 0.5:
        raise Unfit(f"{name} is opaque and dark, or opaque for the most part: {ERASED}; {TOLD_BY_ONE}")
    return opaque
