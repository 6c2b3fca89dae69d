"""Photos as tensors, and back."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from refine_lib.photos.formats import ALL_FORMATS
from refine_lib.photos.opened import Source, Unfit, name_of, opened, tags_of

MOST_GRAY = 0.3  # of a mask; its edges may be soft
BUILT_IN = ("astronaut", "chelsea", "coffee", "rocket")


def load_photo(name_or_path: Source, device: torch.device | str = "cpu") -> torch.Tensor:
    """Reads a photo as a float32 tensor, turned upright as its EXIF data say.

    Args:
        name_or_path: one of scikit-image's photos (``"astronaut"``, ``"chelsea"``, ``"coffee"``, ``"rocket"``), or the path
            of a picture file of 8 bits a channel, or such a file itself, opened to read bytes.

    Returns:
        (1, 3, H, W) in [0, 1].

    Raises:
        FileNotFoundError: where the name is not known and there is no such file.
        ValueError: where the file is no picture, or has more bits a channel.
    """
    if isinstance(name_or_path, str) and name_or_path in BUILT_IN:
        from skimage import data  # with the notebooks' extras: the library does without it

        pixels = getattr(data, name_or_path)()
    else:
        known = ", ".join(map(repr, BUILT_IN))
        pixels = read_pixels(name_or_path, "RGB", "name_or_path", f"one of {known} or the path of a picture")
    return to_image(pixels).to(device)


def load_mask(path: Source, device: torch.device | str = "cpu") -> torch.Tensor:
    """Reads a picture of a hole from a path or a file. What is brighter than half is hole, so that a lossy file's noise is not.

    Returns:
        (1, 1, H, W), 1 = hole, float32.

    Raises:
        FileNotFoundError, ValueError: as in ``load_photo``, and where the picture has as many grays as a photo.
    """
    pixels = read_pixels(path, "L", "path", "the path of a picture, white where the hole is")
    gray = ((pixels > 63) & (pixels < 192)).mean()
    if gray > MOST_GRAY and len(np.unique(pixels)) > 64:
        raise Unfit(
            f"{name_of(path)} is a photo: {gray:.0%} of it is gray; expected a mask, white where the hole is, else black"
        )
    return torch.from_numpy(pixels > 127)[None, None].to(device, torch.float32)


def save_photo(image: torch.Tensor, path: str | os.PathLike) -> None:
    """Writes the first picture of a batch (B, C, H, W) in [0, 1] to a file of 8 bits a channel. Its ending says the format.

    Raises:
        FileExistsError: where there is such a file. Nothing is written over.
    """
    if Path(path).exists():
        raise FileExistsError(f"path is {str(path)!r}, which is there already; expected a new name")
    Image.fromarray(to_pixels(image)).save(path)


def to_pixels(image: torch.Tensor, dtype: npt.DTypeLike = np.uint8) -> np.ndarray:
    """The first picture of a batch (B, C, H, W) in [0, 1] as pixels (H, W, 3), or (H, W) for a mask: uint8, or uint16.

    Rounded to the nearest value, so that a photo comes back bit for bit.
    """
    rounded = image[0].detach().clamp(0, 1).mul_(np.iinfo(dtype).max).round_().cpu()
    if dtype == np.uint8:  # early, while a pixel's channels are brought together: that is four times less to move
        rounded = rounded.to(torch.uint8)
    pixels = rounded.permute(1, 2, 0).contiguous().numpy().astype(dtype, copy=False)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def to_image(pixels: np.ndarray) -> torch.Tensor:
    """uint8 or uint16 pixels (H, W, 3) as an image (1, 3, H, W) in [0, 1], float32: the inverse of ``to_pixels``.

    Gray ones, (H, W), become three equal channels.
    """
    full = np.iinfo(pixels.dtype).max
    image = torch.from_numpy(np.atleast_3d(pixels).astype(np.float32) / full)
    return image.permute(2, 0, 1)[None].expand(1, 3, -1, -1).contiguous()


def read_pixels(path: Source, mode: str = "RGB", argument: str = "path", wanted: str = "the path of a picture") -> np.ndarray:
    """The pixels of a picture of 8 bits a channel, turned upright: uint8 (H, W, 3), or (H, W) for mode ``"L"``.

    ``argument`` and ``wanted`` are said where there is no such file, as in ``refine_lib.photos.opened.opened``.
    """
    with opened(path, ALL_FORMATS, argument, wanted) as file:
        if file.mode.startswith(("I", "F")):
            raise Unfit(f"{name_of(path)} has pixels of mode {file.mode}; expected 8 bits a channel")
        tags_of(file)  # once, so that damaged ones do not hinder
        return np.asarray(ImageOps.exif_transpose(file).convert(mode))
