"""Photos as tensors, and back; photo files with all that they hold, and back."""

import os
import uuid
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin
from PIL.ExifTags import Base

from refine_lib import exif
from refine_lib.checks import SMALLEST_SIDE

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
BUILT_IN = ("astronaut", "chelsea", "coffee", "rocket")
ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}  # px

# Pillow's modes: what a photo's becomes where nothing in it is transparent, those of 16-bit grey, and what a format can hold.
PLAIN = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
HOLDS = {"JPEG": ("L", "RGB"), "WEBP": ("L", "LA", "RGB", "RGBA")}


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


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as its file has it, turned upright.

    Attributes:
        image: its pixels, a Pillow image of mode L, LA, RGB, RGBA or I;16 (16-bit grey).
        name: of the file, for messages.
        stored_size: (width, height) before it was turned.
        notes: what the file says beside its pixels, by the names that Pillow's writers have for it: ``exif`` (without the
            orientation), ``xmp``, ``icc_profile``, ``dpi``.
        jpeg: how a JPEG was compressed, for Pillow's writer; empty for others.
    """

    image: Image.Image
    name: str
    stored_size: tuple
    notes: dict
    jpeg: dict


class Unfit(ValueError):
    """A picture can be read, but not be taken as it is; the message names its file, what it has and what is wanted."""


def read_photo(photo):
    """Reads a photo with all that its file holds, so that it can be written again with nothing lost.

    Args:
        photo: the path of a JPEG, PNG, TIFF, WebP, GIF or BMP, such a file opened to read bytes, or a Pillow image. Of an MPO
            (a JPEG with more pictures behind) the first is taken.

    Returns:
        A ``Photo``. Black and white (mode 1) becomes grey, a palette its colours.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, or one of which something would be lost: more than one picture, other colours
            than grey and RGB, more than 8 bits a channel in colour, or more than 16.
    """
    name = _name(photo)
    if not _is_picture(photo):
        raise FileNotFoundError(f"photo is {name!r}; expected the path of a picture")
    with _opened(photo, [f for f in FORMATS if f != "PPM"]) as file:  # Pillow rounds a deep one to 8 bits
        _check_single(file, name)
        _check_kept(file, name)
        turned = file.getexif().get(Base.Orientation, 1) > 4  # by a quarter
        jpeg = {}
        if file.format in ("JPEG", "MPO"):
            jpeg = {"qtables": file.quantization, "subsampling": max(JpegImagePlugin.get_sampling(file), 0)}  # -1: unknown
        upright = ImageOps.exif_transpose(file)
        notes = {key: upright.info[key] for key in ("xmp", "icc_profile", "dpi") if upright.info.get(key)}
        notes["exif"] = exif.upright(file.info.get("exif") or exif.of_tags(file.getexif()), upright.size)
    size = upright.size[::-1] if turned else upright.size
    return Photo(_worked_on(upright), name, size, notes, jpeg)


def read_hole(mask, threshold=0.5):
    """Reads a picture of a hole, of any mode, upright.

    Args:
        mask: a path, an opened file or a Pillow image. What is drawn in one colour on transparent ground is the hole there,
            whatever the colour; else what is bright.
        threshold: brighter (or more opaque) than this share of the full range is hole.

    Returns:
        (H, W), bool: True in the hole.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, holds several, or does not tell whether its colours or its transparency is meant.
    """
    name = _name(mask)
    if not _is_picture(mask):
        raise FileNotFoundError(f"mask is {name!r}; expected the path of a picture, white where the hole is")
    with _opened(mask) as file:
        _check_single(file, name)
        if file.mode in ("I", "F"):
            raise Unfit(f"{name} has pixels of mode {file.mode}, whose white is unknown; expected 8 or 16 bits a channel")
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
    if np.ptp(pixels[alpha > alpha.max() / 2], axis=0)[:3].max() > 8:  # of 255: what a drawing program rounds is one colour
        wanted = "expected white on black without transparency, or one colour on transparent ground"
        raise Unfit(f"{name} has several colours and transparency, either of which could be the hole; {wanted}")
    return alpha > threshold * 255


def check_output(path, overwrite=False):
    """Raises unless a photo can be written to a path: a known ending, a folder that is there, and no file, or ``overwrite``."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"output is {str(path)!r}; expected a name that ends in one of {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output is {str(path)!r}, whose folder is not there; expected one that is")
    if path.is_dir() or path.exists() and not overwrite:
        raise FileExistsError(f"output is {str(path)!r}, which is there already; expected a new name, or to overwrite it")


def check_holds(path, photo):
    """Raises unless the format of a path's ending holds a photo with all that belongs to it."""
    format, image = ENDINGS[Path(path).suffix.lower()], photo.image
    if image.mode not in HOLDS.get(format, (image.mode,)):
        what = "16 bits a channel" if image.mode in DEEP else "transparency"
        raise ValueError(f"{photo.name} has {what}, which {format} does not hold; expected output to end in .png or .tif")
    if max(image.size) > LARGEST_SIDE.get(format, max(image.size)):
        raise ValueError(
            f"{photo.name} is {image.width} px wide and {image.height} px high, and {format} holds {LARGEST_SIDE[format]} px;"
            " expected output to end in .png or .tif"
        )
    try:
        _save(image.crop((0, 0, 8, 8)), BytesIO(), format, photo)  # a little of it: what it says beside its pixels may not fit
    except Exception as error:  # whatever the writer trips over, it is now and not when the work is done
        raise ValueError(f"{photo.name} cannot be written as {format}: {error}") from error


def write_photo(image, path, photo, overwrite=False):
    """Writes a picture to a file with all that a photo's file said beside its pixels. The ending says the format.

    PNG, TIFF and WebP are written without loss; a JPEG as the photo's own JPEG was compressed, so that it changes least, or
    with quality 95. An interruption leaves no file, or the one that was there.

    Args:
        image: a Pillow image.
        photo: a ``Photo``.
        overwrite: whether a file that is there is replaced.

    Raises:
        FileExistsError: where there is such a file and it is not to be replaced.
        ValueError: where the ending is not of such a format, or this does not hold the picture.
    """
    path = Path(path)
    check_output(path, overwrite)
    check_holds(path, photo)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as file:
            _save(image, file, ENDINGS[path.suffix.lower()], photo)
        if not overwrite:
            open(path, "xb").close()  # takes the name, or finds that another file has taken it meanwhile
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _save(image, file, format, photo):
    notes = dict(photo.notes)
    if format == "PNG" and "xmp" in notes:
        notes["pnginfo"] = PngImagePlugin.PngInfo()
        notes["pnginfo"].add_itxt("XML:com.adobe.xmp", notes["xmp"].decode("utf-8", "replace"))
    if format == "TIFF":
        tags = Image.Exif()
        tags.load(notes["exif"])
        notes["exif"] = exif.without_storage(tags)
        if "xmp" in notes:
            notes["exif"][Base.XMLPacket] = notes["xmp"]
        notes["compression"] = "raw"  # Pillow's writer of the others loses the EXIF data
    if format == "JPEG":
        notes |= photo.jpeg or {"quality": 95, "subsampling": 0}
    if format == "WEBP":
        notes |= {"lossless": True, "exact": True}  # exact: the colours under what is transparent, too
    image.save(file, format, **notes)


def _check_single(file, name):
    if file.format != "MPO" and getattr(file, "n_frames", 1) > 1:
        raise Unfit(f"{name} holds {file.n_frames} pictures, pages or an animation; expected one: save it by itself first")


def _check_kept(file, name):
    """Raises unless a photo can be worked on with nothing of it lost."""
    tags, deep, depth = getattr(file, "tag_v2", {}), file.mode in DEEP, _depth(file)
    if tags.get(Base.NewSubfileType, 0) & 1:
        raise Unfit(f"{name} begins with a small copy, as a camera's raw files do; develop it first, to TIFF or JPEG")
    if not deep and file.mode not in PLAIN:
        kind = {"I": "32-bit whole numbers", "F": "32-bit fractions"}.get(file.mode, f"{file.mode} colours")
        raise Unfit(f"{name} has {kind}; expected RGB or grey: convert it first")
    if depth > 8 and not (deep and depth == 16):
        raise Unfit(f"{name} has {depth} bits a channel; expected 8, or 16 in grey: save a copy of 8 bits, this one stays")
    if deep and ("transparency" in file.info or tags.get(Base.PhotometricInterpretation) == 0):
        raise Unfit(f"{name} is 16-bit grey with 0 for white, or a transparent value; expected 0 for black and none such")
    if min(file.size) < SMALLEST_SIDE:
        raise Unfit(f"{name} is {file.width} px wide and {file.height} px high; expected at least {SMALLEST_SIDE} px a side")


def _depth(file):
    """Bits a channel in the file: Pillow reads colours of 16 bits as 8 and says nothing."""
    if file.format == "TIFF":
        return max(file.tag_v2.get(Base.BitsPerSample, (1,)))
    if file.format == "PNG" and file.fp:
        place = file.fp.tell()
        file.fp.seek(24)  # behind the signature, the length and name of the first chunk, width and height
        depth = file.fp.read(1)[0]
        file.fp.seek(place)
        return depth
    return 16 if file.mode in DEEP else 8


def _worked_on(image):
    if image.mode in DEEP:
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    return image.convert(PLAIN[image.mode] + "A" * image.has_transparency_data)


def _is_file(path):
    return hasattr(path, "read") or Path(path).is_file()


def _is_picture(source):
    return isinstance(source, Image.Image) or _is_file(source)


def _name(source):
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or "the file")


@contextmanager
def _opened(source, formats=FORMATS):
    """A picture, from its file where it is not opened yet; what is wrong with a damaged file is said in words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of over 89 MP: large, but taken
            # By name: Pillow's readers of other formats run programs of the machine, or follow the name of an opened file.
            with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source, formats=formats) as file:
                yield file
    except (Unfit, MemoryError):
        raise
    except Exception as error:  # not a picture, one that ends too early, one of over 179 MP, or what else a decoder trips over
        raise ValueError(f"{_name(source)} cannot be read as a picture: {error}") from error


def _read(path, mode):
    with _opened(path) as file:
        if file.mode.startswith(("I", "F")):
            raise Unfit(f"{_name(path)} has pixels of mode {file.mode}; expected 8 bits a channel")
        return np.asarray(ImageOps.exif_transpose(file).convert(mode))
