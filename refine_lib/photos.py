"""Photos as tensors, and back."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
BUILT_IN = ("astronaut", "chelsea", "coffee", "rocket")


def load_photo(name_or_path, device="cpu"):
    """Reads a photo as a float32 tensor.

    Args:
        name_or_path: one of scikit-image's photos (``"astronaut"``, ``"chelsea"``, ``"coffee"``, ``"rocket"``), or the path
            of a picture file of 8 bits a channel, or such a file itself, opened to read bytes; what its EXIF data say of
            its orientation is done.

    Returns:
        (1, 3, H, W) in [0, 1].

    Raises:
        FileNotFoundError: where the name is not known and there is no such file.
        ValueError: where the file is no picture, or has more bits a channel.
    """
    if isinstance(name_or_path, str) and name_or_path in BUILT_IN:
        from skimage import data  # with the notebooks' extras: the library does without it

        pixels = getattr(data, name_or_path)()
    elif _is_file(name_or_path):
        pixels = _read(name_or_path, "RGB")
    else:
        known = ", ".join(map(repr, BUILT_IN))
        raise FileNotFoundError(f"name_or_path is {str(name_or_path)!r}; expected one of {known} or the path of a picture")
    return to_image(pixels).to(device)


def load_mask(path, device="cpu"):
    """Reads a picture of a hole from a path or a file: what is brighter than half is hole, so that a lossy file's noise is not.

    Returns:
        (1, 1, H, W), 1 = hole, float32.

    Raises:
        FileNotFoundError, ValueError: as in ``load_photo``.
    """
    if not _is_file(path):
        raise FileNotFoundError(f"path is {str(path)!r}; expected the path of a picture, white where the hole is")
    return torch.from_numpy(_read(path, "L") > 127)[None, None].to(device, torch.float32)


def save_photo(image, path):
    """Writes the first picture of a batch (B, C, H, W) in [0, 1] to a file of 8 bits a channel; its ending says the format.

    Raises:
        FileExistsError: where there is such a file: nothing is written over.
    """
    if Path(path).exists():
        raise FileExistsError(f"path is {str(path)!r}, which is there already; expected a new name")
    Image.fromarray(to_pixels(image)).save(path)


def to_pixels(image):
    """The first picture of a batch (B, C, H, W) in [0, 1] as uint8 pixels (H, W, 3), or (H, W) for a mask.

    Rounded to the nearest value, so that an 8-bit photo comes back bit for bit.
    """
    pixels = (image[0].detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def to_image(pixels):
    """uint8 pixels (H, W, 3) as an image (1, 3, H, W) in [0, 1], float32: the inverse of ``to_pixels``."""
    return torch.tensor(pixels).permute(2, 0, 1)[None].to(torch.float32) / 255


def _is_file(path):
    return hasattr(path, "read") or Path(path).is_file()


def _read(path, mode):
    name = "the file" if hasattr(path, "read") else path
    try:
        # By name: Pillow's readers of other formats run programs of the machine, or follow the name of an opened file.
        with Image.open(path, formats=FORMATS) as file:
            if file.mode.startswith(("I", "F")):
                raise ValueError(f"{name} has pixels of mode {file.mode}; expected 8 bits a channel")
            return np.asarray(ImageOps.exif_transpose(file).convert(mode))
    except (OSError, Image.DecompressionBombError) as error:  # not a picture, one that ends too early, one of over 179 MP
        raise ValueError(f"{name} cannot be read as a picture: {error}") from error
