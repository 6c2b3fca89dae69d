"""What a PNG says that Pillow does not tell, or does not write by itself: its colors, its texts and its depth."""

import struct
import zlib
from contextlib import suppress
from io import BytesIO
from itertools import takewhile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from refine_lib.photos.opened import Unfit, name_of, stream_of

if TYPE_CHECKING:
    from refine_lib.photos.files import Photo

# The chunks by which a PNG without a profile tells what its colors are, and what they say of sRGB, in 100,000ths.
COLORS = (b"cHRM", b"cICP", b"gAMA", b"sRGB")
SRGB = {b"gAMA": (45455,), b"cHRM": (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)}
SRGB_CICP = bytes([1, 13, 0, 1])


def details(file: Any) -> dict[str, Any]:
    """The ``depth`` of a PNG in bits a channel, its chunks of ``colors`` by name, and its ``text`` by keyword.

    Raises:
        Unfit: where Pillow has loaded it, and has let go of its file, and this is gone or another one now.
    """
    chunks = {}
    with suppress(struct.error), stream_of(file) as stream:
        stream.seek(8)  # behind the signature
        chunks.update(takewhile(lambda chunk: chunk[0] not in (b"IDAT", b"IEND"), _chunks(stream)))
    if chunks.get(b"IHDR", b"")[:8] != struct.pack(">II", *file.size):
        wanted = "expected its path, since Pillow reads colors of 16 bits as 8"
        raise Unfit(f"{name_of(file)} is a PNG that is loaded already, whose file cannot be looked at; {wanted}")
    colors = {name: chunks[name] for name in COLORS if name in chunks}
    depth = chunks[b"IHDR"][8]  # behind width and height
    return {"depth": depth, "colors": colors, "text": dict(file.text)}


def _chunks(stream):
    """The chunks of a PNG, each as (name, content), from a place in its file on."""
    while head := stream.read(8):
        length, name = struct.unpack(">I4s", head)
        yield name, stream.read(length + 4)[:-4]  # a sum to check it by stands behind


def options(photo: "Photo", quality: int | None) -> dict[str, Any]:
    """For ``save``: chunks with a photo's XMP data, and with the colors and texts of a PNG, and whether it had a palette."""
    info = PngImagePlugin.PngInfo()
    for name, content in photo.details.get("colors", {}).items():
        info.add(name, content)
    for keyword, words in photo.details.get("text", {}).items():
        if not keyword.startswith(("XML:com.adobe.xmp", "Raw profile type")):  # the notes, as other programs write them
            info.add_text(keyword, words)
    if "xmp" in photo.notes:
        info.add_itxt("XML:com.adobe.xmp", photo.notes["xmp"].decode("utf-8", "replace"))
    return {"pnginfo": info, "palette": photo.details.get("palette", False)}


def save(image: Any, file: BinaryIO, palette: bool, **options: Any) -> None:
    """Writes a Pillow image, or an array (H, W, C) of uint16.

    Args:
        palette: whether to write one, where it holds all colors of the picture.
        options: of Pillow's writer.
    """
    if isinstance(image, np.ndarray):
        _save_deep(image, file, options)
        return
    if palette and image.getcolors(256):
        keys = np.asarray(image.convert("RGBA")).view(np.uint32)[..., 0]
        kinds, numbers = np.unique(keys, return_inverse=True)
        colors = kinds.view(np.uint8).reshape(-1, 4)
        if image.mode == "RGBA":
            options["transparency"] = colors[:, 3].tobytes()
        image = Image.fromarray(numbers.reshape(keys.shape).astype(np.uint8))
        image.putpalette(colors[:, :3].tobytes())
    image.save(file, "PNG", **options)


def _save_deep(pixels, file, options):
    """Pillow writes a picture of one pixel with all chunks, and those of its size and pixels are exchanged."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.pad(np.diff(rows, axis=0, prepend=np.uint8(0)), ((0, 0), (1, 0)), constant_values=2)  # 2: less the row above
    kind = {3: 2, 4: 6}[channels]
    exchanged = {b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0), b"IDAT": zlib.compress(filtered.tobytes())}
    small = BytesIO()
    Image.new("RGB" if channels == 3 else "RGBA", (1, 1)).save(small, "PNG", **options)
    file.write(small.getvalue()[:8])
    small.seek(8)
    for name, content in _chunks(small):
        PngImagePlugin.putchunk(file, name, exchanged.get(name, content))


def has_own_colors(photo: "Photo") -> bool:
    """Whether a photo's numbers mean other colors than they would in a file that says nothing of them but the profile."""
    chunks = photo.details.get("colors", {})
    if b"cICP" in chunks or photo.notes.get("icc_profile") or b"sRGB" in chunks:  # in the order of their rank
        return chunks.get(b"cICP", SRGB_CICP) != SRGB_CICP
    said = {name: struct.unpack_from(f">{len(values)}I", chunks[name]) for name, values in SRGB.items() if name in chunks}
    return any(abs(a - b) > 100 for name, values in said.items() for a, b in zip(values, SRGB[name], strict=True))
