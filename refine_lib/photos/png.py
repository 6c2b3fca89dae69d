"""What a PNG says that Pillow does not tell, or does not write by itself: its colors, its texts and its depth."""

import struct
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import PngImagePlugin

from refine_lib.photos.opened import Unfit, name_of

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
    own = open(file.filename, "rb") if Path(file.filename).is_file() else nullcontext(file.fp)
    with suppress(AttributeError, struct.error), own as stream:
        place = stream.tell()
        stream.seek(8)  # behind the signature
        chunks.update(iter(lambda: _chunk(stream), None))
        stream.seek(place)
    if chunks.get(b"IHDR", b"")[:8] != struct.pack(">II", *file.size):
        wanted = "expected its path, since Pillow reads colors of 16 bits as 8"
        raise Unfit(f"{name_of(file)} is a PNG that is loaded already, whose file cannot be looked at; {wanted}")
    colors = {name: chunks[name] for name in COLORS if name in chunks}
    return {"depth": chunks[b"IHDR"][8], "colors": colors, "text": dict(file.text)}  # the depth stands behind width and height


def _chunk(file):
    """The name and content of the next chunk, or None where the pixels begin."""
    length, name = struct.unpack(">I4s", file.read(8))
    if name in (b"IDAT", b"IEND"):
        return None
    return name, file.read(length + 4)[:-4]  # a sum to check it by stands behind


def options(photo: "Photo") -> dict[str, Any]:
    """For Pillow's writer: chunks with a photo's XMP data, and with the colors and texts of a PNG."""
    info = PngImagePlugin.PngInfo()
    for name, content in photo.details.get("colors", {}).items():
        info.add(name, content)
    for keyword, words in photo.details.get("text", {}).items():
        if not keyword.startswith(("XML:com.adobe.xmp", "Raw profile type")):  # the notes, as other programs write them
            info.add_text(keyword, words)
    if "xmp" in photo.notes:
        info.add_itxt("XML:com.adobe.xmp", photo.notes["xmp"].decode("utf-8", "replace"))
    return {"pnginfo": info}


def has_own_colors(photo: "Photo") -> bool:
    """Whether a photo's numbers mean other colors than they would in a file that says nothing of them but the profile."""
    chunks = photo.details.get("colors", {})
    if b"cICP" in chunks or photo.notes.get("icc_profile") or b"sRGB" in chunks:  # in the order of their rank
        return chunks.get(b"cICP", SRGB_CICP) != SRGB_CICP
    said = {name: struct.unpack_from(f">{len(values)}I", chunks[name]) for name, values in SRGB.items() if name in chunks}
    return any(abs(a - b) > 100 for name, values in said.items() for a, b in zip(values, SRGB[name], strict=True))
