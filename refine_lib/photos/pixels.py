"""Photos as tensors, and back."""

import os
import warnings
from contextlib import contextmanager, nullcontext
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
    elif is_file(name_or_path):
        pixels = read_pixels(name_or_path, "RGB")
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
    if not is_file(path):
        raise FileNotFoundError(f"path is {str(path)!r}; expected the path of a picture, white where the hole is")
    return torch.from_numpy(read_pixels(path, "L") > 127)[None, None].to(device, torch.float32)


def save_photo(image, path):
    """Writes the first picture of a batch (B, C, H, W) in [0, 1] to a file of 8 bits a channel; its ending says the format.

    Raises:
        FileExistsError: where there is such a file: nothing is written over.
    """
    if Path(path).exists():
        raise FileExistsError(f"path is {str(path)!r}, which is there already; expected a new name")
    Image.fromarray(to_pixels(image)).save(path)


def to_pixels(image, dtype=np.uint8):
    """The first picture of a batch (B, C, H, W) in [0, 1] as pixels (H, W, 3), or (H, W) for a mask: uint8, or uint16.

    Rounded to the nearest value, so that a photo comes back bit for bit.
    """
    full = np.iinfo(dtype).max
    pixels = (image[0].detach().clamp(0, 1) * full).round().cpu().permute(1, 2, 0).numpy().astype(dtype)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def to_image(pixels):
    """uint8 or uint16 pixels (H, W, 3) as an image (1, 3, H, W) in [0, 1], float32: the inverse of ``to_pixels``.

    Grey ones, (H, W), become three equal channels.
    """
    full = np.iinfo(pixels.dtype).max
    pixels = torch.from_numpy(np.atleast_3d(pixels).astype(np.float32) / full)
    return pixels.permute(2, 0, 1)[None].expand(1, 3, -1, -1).contiguous()


class Unfit(ValueError):
    """A picture can be read, but not be taken as it is; the message names its file, what it has and what is wanted."""


def is_file(path):
    """Whether this is a file that is there, by its path or opened."""
    return hasattr(path, "read") or Path(path).is_file()


def name_of(source):
    """What a picture is called in messages."""
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or "the file")


@contextmanager
def opened(source, formats=FORMATS):
    """A picture, from its file where it is not opened yet; what is wrong with a damaged file is said in words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of over 89 MP: large, but taken
            warnings.filterwarnings("ignore", "Corrupt EXIF data|Truncated File Read")  # said where they are left out
            # By name: Pillow's readers of other formats run programs of the machine, or follow the name of an opened file.
            with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source, formats=formats) as file:
                yield file
    except (Unfit, MemoryError):
        raise
    except Exception as error:  # not a picture, one that ends too early, one of over 179 MP, or what else a decoder trips over
        raise ValueError(f"{name_of(source)} cannot be read as a picture: {error}") from error


def tags_of(file):
    """What Pillow understands of the EXIF data, which it keeps in ``file``: where they are damaged, little or nothing."""
    try:
        return file.getexif()
    except Exception:  # whatever it trips over
        return file.getexif()


def read_pixels(path, mode="RGB"):
    """The pixels of a picture of 8 bits a channel, turned upright: uint8 (H, W, 3), or (H, W) for mode ``"L"``."""
    with opened(path) as file:
        if file.mode.startswith(("I", "F")):
            raise Unfit(f"{name_of(path)} has pixels of mode {file.mode}; expected 8 bits a channel")
        tags_of(file)  # once, so that damaged ones do not hinder
        return np.asarray(ImageOps.exif_transpose(file).convert(mode))
