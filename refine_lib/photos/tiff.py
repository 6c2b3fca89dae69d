"""TIFF files: how one is compressed, and a writer that keeps this together with what the file says beside its pixels.

Pillow's own writer of compressed files loses the EXIF data, and it has no mode for colors of 16 bits a channel. So Pillow
compresses the channels here as if they were gray, and the directory that tells what they are is made for them.
"""

from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from refine_lib.photos import exif
from refine_lib.photos.opened import Unfit, name_of

if TYPE_CHECKING:
    from refine_lib.photos.files import Photo

PREDICTED = ("tiff_lzw", "tiff_adobe_deflate")  # Pillow's names of what may go by the differences between neighbors
KEPT = ("raw", "packbits", *PREDICTED)  # what is written as it was
IN_GRAY = (Base.Compression, Base.StripOffsets, Base.RowsPerStrip, Base.StripByteCounts)
IN_PLANES = 2


def details(file: Any) -> dict[str, Any]:
    """The ``depth`` of a TIFF in bits a channel, its ``compression`` by Pillow's name, and its ``predictor`` (2: differences).

    A compression that loses something, or that few programs know, becomes Deflate.

    Raises:
        Unfit: where colors of 16 bits a channel lie in a plane for each channel.
    """
    tags = file.tag_v2
    depth = max(tags.get(Base.BitsPerSample, (1,)))
    if depth > 8 and file.mode.startswith("RGB") and tags.get(Base.PlanarConfiguration) == IN_PLANES:
        raise Unfit(f"{name_of(file)} has {depth} bits a channel in planes; expected the channels of a pixel side by side")
    compression, differences = file.info.get("compression"), tags.get(Base.Predictor) == 2
    if compression not in KEPT:
        compression, differences = "tiff_adobe_deflate", True
    return {"depth": depth, "compression": compression, "predictor": 2 if differences and compression in PREDICTED else 1}


def options(photo: "Photo", quality: int | None) -> dict[str, Any]:
    """For ``save``: how the file of a photo was compressed, and its tags. What comes from another format is not compressed."""
    tags = Image.Exif()
    tags.load(photo.notes["exif"])
    tags = exif.without_storage(tags)
    if "xmp" in photo.notes:
        tags[Base.XMLPacket] = photo.notes["xmp"]
    return {"exif": tags} | {key: photo.details[key] for key in ("compression", "predictor") if key in photo.details}


def save(image: Any, file: BinaryIO, exif: Any, compression="raw", predictor=1, icc_profile=b"", dpi=(), **others: Any) -> None:
    """Writes a Pillow image of 8 or 16 bits, or an array (H, W, C) of uint16."""
    pixels = np.atleast_3d(np.asarray(image))
    height, width, channels = pixels.shape
    if predictor == 2:
        pixels = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
    gray = BytesIO()
    Image.fromarray(pixels.reshape(height, -1)).save(gray, "TIFF", compression=compression)
    gray.seek(0)
    written = TiffImageFile(gray).tag_v2
    tags = ImageFileDirectory_v2(prefix=written.prefix)
    for tag, value in (*exif.items(), *((tag, written[tag]) for tag in IN_GRAY)):
        tags[tag] = value
    tags[Base.ImageWidth], tags[Base.ImageLength], tags[Base.SamplesPerPixel] = width, height, channels
    tags[Base.BitsPerSample] = (8 * pixels.itemsize,) * channels
    tags[Base.PhotometricInterpretation] = 2 if channels > 2 else 1
    if channels in (2, 4):
        tags[Base.ExtraSamples] = 2  # alpha
    if predictor == 2:
        tags[Base.Predictor] = 2
    if icc_profile:
        tags[Base.InterColorProfile] = icc_profile
    if dpi:
        tags[Base.ResolutionUnit], tags[Base.XResolution], tags[Base.YResolution] = 2, *dpi
    starts = written[Base.StripOffsets]
    tags[Base.StripOffsets] = tuple(start - min(starts) for start in starts)  # save adds where it ends
    tags.save(file)
    ends = map(sum, zip(starts, written[Base.StripByteCounts], strict=True))
    file.write(gray.getbuffer()[min(starts) : max(ends)])
