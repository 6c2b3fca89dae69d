"""Photo files with what they say beside their pixels: read so that they can be written again, changed in the hole alone."""

import os
import re
import struct
import uuid
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin
from PIL.ExifTags import Base

from refine_lib.checks import SMALLEST_SIDE
from refine_lib.photos import exif
from refine_lib.photos.pixels import FORMATS, Unfit, is_file, name_of, opened, tags_of

ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}  # px

# Pillow's modes: what a photo's becomes where nothing in it is transparent, those of 16-bit grey, and what a format can hold.
PLAIN = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
HOLDS = {"JPEG": ("L", "RGB"), "WEBP": ("L", "LA", "RGB", "RGBA")}

# The chunks by which a PNG without a profile tells what its colours are, and what they say of sRGB, in 100,000ths.
COLOURS = (b"cHRM", b"cICP", b"gAMA", b"sRGB")
SRGB = {b"gAMA": (45455,), b"cHRM": (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)}
SRGB_CICP = bytes([1, 13, 0, 1])

# What XMP data show a photo in: a list of small copies, which can be cut out, and others, with which they are dropped.
THUMBNAILS = re.compile(rb"<((?:[\w.-]+:)?Thumbnails)(?=[\s/>])[^>]*?(?:/>|>.*?</\1\s*>)", re.DOTALL)
SHOWN = (b"Thumbnails", b"GImg:image", b"GImage:Data", b"GDepth:Data", b"/g/img/")


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as its file has it, turned upright.

    Attributes:
        image: its pixels, a Pillow image of mode L, LA, RGB, RGBA or I;16 (16-bit grey).
        name: of the file, for messages.
        stored_size: (width, height) before it was turned.
        notes: what the file says beside its pixels, by the names that Pillow's writers have for it: ``exif`` (without the
            orientation), ``xmp`` (without thumbnails), ``icc_profile``, ``dpi``, ``comment`` (of a JPEG or GIF).
        jpeg: how a JPEG was compressed, for Pillow's writer; empty for others.
        colours: a PNG's chunks of ``COLOURS``, by name; empty for others.
        text: a PNG's texts, by keyword; empty for others.
        message: a sentence where something that the file says is damaged and left out; else empty.
    """

    image: Image.Image
    name: str
    stored_size: tuple
    notes: dict
    jpeg: dict
    colours: dict
    text: dict
    message: str = ""


class LeftOut(UserWarning):
    """What a photo's file says beside its pixels is damaged, and the photo goes on without."""


def read_photo(photo):
    """Reads a photo with what its file says beside its pixels, so that both can be written again.

    That is: EXIF data, XMP data, colour profile, resolution, a JPEG's or GIF's comment, a PNG's texts and how it describes its
    colours. Not kept are a JPEG's IPTC data (its caption), an editor's resources, thumbnails, XMP data with other pictures
    in it, the further pictures of an MPO, what belongs to one format alone (a GIF's loop, a PNG's time), and EXIF data that
    are damaged, which ``message`` says.

    Args:
        photo: the path of a JPEG, PNG, TIFF, WebP, GIF or BMP, such a file opened to read bytes, or a Pillow image. Of an MPO
            (a JPEG with more pictures behind) the first is taken. A PNG's copy in memory has no texts or gamma.

    Returns:
        A ``Photo``. Black and white (mode 1) becomes grey, a palette its colours.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, or one of which something would be lost: more than one picture, other colours
            than grey and RGB, more than 8 bits a channel in colour, or more than 16; or a PNG that Pillow has loaded, whose
            file cannot be looked at.
    """
    name = name_of(photo)
    if not _is_picture(photo):
        raise FileNotFoundError(f"photo is {name!r}; expected the path of a picture")
    with opened(photo, [f for f in FORMATS if f != "PPM"]) as file:  # Pillow rounds a deep one to 8 bits
        _check_single(file, name)
        chunks = _chunks(file, name) if file.format == "PNG" else {}
        _check_kept(file, name, chunks)
        tags = tags_of(file)
        turned = tags.get(Base.Orientation, 1) > 4  # by a quarter
        jpeg = {}
        if file.format in ("JPEG", "MPO"):
            jpeg = {"qtables": file.quantization, "subsampling": max(JpegImagePlugin.get_sampling(file), 0)}  # -1: unknown
        upright = ImageOps.exif_transpose(file)
        notes, message = _notes(upright.info), ""
        try:
            notes["exif"] = exif.upright(file.info.get("exif") or exif.of_tags(tags), upright.size)
        except Exception:  # whatever is wrong with them, the picture is there
            notes["exif"] = b""
            message = f"The EXIF data of {name} are damaged and were left out."
        colours = {key: chunks[key] for key in COLOURS if key in chunks}
        text = dict(file.text) if file.format == "PNG" else {}
    size = upright.size[::-1] if turned else upright.size
    return Photo(_worked_on(upright), name, size, notes, jpeg, colours, text, message)


def _notes(info):
    said = {key: info.get(key) for key in ("xmp", "icc_profile", "dpi", "comment")}
    said = {key: value for key, value in said.items() if not isinstance(value, str)}  # a PNG's text may have such a name
    if said.get("xmp"):
        said["xmp"] = without_pictures(said["xmp"])
    return {key: value for key, value in said.items() if value}


def without_pictures(xmp):
    """XMP data, bytes, without the thumbnails, which show what was in the hole; empty where they hold other pictures."""
    xmp = THUMBNAILS.sub(b"", xmp)
    plain = xmp.replace(b"\0", b"")  # of two or four bytes a letter
    return b"" if any(name in plain for name in SHOWN) else xmp


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
    name = name_of(mask)
    if not _is_picture(mask):
        raise FileNotFoundError(f"mask is {name!r}; expected the path of a picture, white where the hole is")
    with opened(mask) as file:
        _check_single(file, name)
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
    """Raises unless the format of a path's ending holds a photo, and shows it in the same colours."""
    format, image = ENDINGS[Path(path).suffix.lower()], photo.image
    if image.mode not in HOLDS.get(format, (image.mode,)):
        what = "16 bits a channel" if image.mode in DEEP else "transparency"
        raise ValueError(f"{photo.name} has {what}, which {format} does not hold; expected output to end in .png or .tif")
    if max(image.size) > LARGEST_SIDE.get(format, max(image.size)):
        raise ValueError(
            f"{photo.name} is {image.width} px wide and {image.height} px high, and {format} holds {LARGEST_SIDE[format]} px;"
            " expected output to end in .png or .tif"
        )
    if format != "PNG" and _own_colours(photo):
        what = "a gamma or primaries of its own (chunks gAMA, cHRM or cICP)"
        raise ValueError(f"{photo.name} has {what}, which {format} does not hold; expected output to end in .png")
    try:
        _save(image.crop((0, 0, 8, 8)), BytesIO(), format, photo)  # a little of it: what it says beside its pixels may not fit
    except Exception as error:  # whatever the writer trips over, it is now and not when the work is done
        raise ValueError(f"{photo.name} cannot be written as {format}: {error}") from error


def write_photo(image, path, photo, overwrite=False):
    """Writes a picture to a file with what ``read_photo`` kept of a photo's file. The ending says the format.

    Each takes the EXIF data, XMP data and colour profile, but none keeps all the rest: WebP no resolution, only JPEG a comment,
    only PNG a PNG's texts. Where the colours would look otherwise it is refused.
    PNG, TIFF and WebP are written without loss; a JPEG as the photo's own JPEG was compressed, so that it changes least, or
    with quality 95. An interruption or a full disk leaves no file, or the one that was there.

    Args:
        image: a Pillow image.
        photo: a ``Photo``.
        overwrite: whether a file that is there is replaced.

    Raises:
        FileExistsError: where there is such a file and it is not to be replaced.
        ValueError: where the ending is not of such a format, or this does not hold the picture.
        OSError: where it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite)
    check_holds(path, photo)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as file:
            _save(image, file, ENDINGS[path.suffix.lower()], photo)
        if overwrite:
            os.replace(part, path)
        else:
            _take_name(part, path)
    except FileExistsError as error:
        raise FileExistsError(f"output is {str(path)!r}, which came meanwhile; expected a new name") from error
    except OSError as error:
        raise OSError(f"output is {str(path)!r}, which could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _take_name(part, path):
    """Gives a file a name that must be free, so that at no time there is a part of it under that name."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without such links, that of a memory card for one
        open(path, "xb").close()
        try:
            os.replace(part, path)
        except BaseException:
            path.unlink()  # empty: an interruption, too, leaves none
            raise


def _save(image, file, format, photo):
    notes = dict(photo.notes)
    if format == "PNG":
        notes["pnginfo"] = _png_info(photo)
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


def _png_info(photo):
    info = PngImagePlugin.PngInfo()
    for name, content in photo.colours.items():
        info.add(name, content)
    for keyword, words in photo.text.items():
        if not keyword.startswith(("XML:com.adobe.xmp", "Raw profile type")):  # the notes, as other programs write them
            info.add_text(keyword, words)
    if "xmp" in photo.notes:
        info.add_itxt("XML:com.adobe.xmp", photo.notes["xmp"].decode("utf-8", "replace"))
    return info


def _own_colours(photo):
    """Whether a photo's numbers mean other colours than they would in a file that says nothing of them but the profile."""
    chunks = photo.colours
    if b"cICP" in chunks or photo.notes.get("icc_profile") or b"sRGB" in chunks:  # in the order of their rank
        return chunks.get(b"cICP", SRGB_CICP) != SRGB_CICP
    said = {name: struct.unpack_from(f">{len(values)}I", chunks[name]) for name, values in SRGB.items() if name in chunks}
    return any(abs(a - b) > 100 for name, values in said.items() for a, b in zip(values, SRGB[name], strict=True))


def _check_single(file, name):
    if file.format != "MPO" and getattr(file, "n_frames", 1) > 1:
        raise Unfit(f"{name} holds {file.n_frames} pictures, pages or an animation; expected one: save it by itself first")


def _check_kept(file, name, chunks):
    """Raises unless a photo's pixels can be worked on as they are."""
    tags, deep, depth = getattr(file, "tag_v2", {}), file.mode in DEEP, _depth(file, chunks)
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


def _depth(file, chunks):
    """Bits a channel in the file: Pillow reads colours of 16 bits as 8 and says nothing."""
    if file.format == "TIFF":
        return max(file.tag_v2.get(Base.BitsPerSample, (1,)))
    if file.format == "PNG":
        return chunks[b"IHDR"][8]  # behind width and height
    return 16 if file.mode in DEEP else 8


def _chunks(file, name):
    """What the chunks hold that stand before the pixels of a PNG, by name; Pillow lets go of a file once it has loaded it."""
    if file.fp:
        place = file.fp.tell()
        chunks = _chunks_of(file.fp)
        file.fp.seek(place)
        return chunks
    try:
        with open(file.filename, "rb") as stream:
            chunks = _chunks_of(stream)
        if struct.unpack_from(">II", chunks[b"IHDR"]) == file.size:
            return chunks
    except (KeyError, OSError, struct.error):  # not there, or another one meanwhile
        pass
    wanted = "expected its path, since Pillow reads colours of 16 bits as 8"
    raise Unfit(f"{name} is a PNG that is loaded already, whose file cannot be looked at; {wanted}")


def _chunks_of(stream):
    stream.seek(8)  # behind the signature
    return dict(iter(lambda: _chunk(stream), None))


def _chunk(stream):
    """The name and content of the next chunk; None where the pixels begin."""
    length, name = struct.unpack(">I4s", stream.read(8))
    if name in (b"IDAT", b"IEND"):
        return None
    return name, stream.read(length + 4)[:-4]  # a sum to check it by stands behind


def _worked_on(image):
    if image.mode in DEEP:
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    return image.convert(PLAIN[image.mode] + "A" * image.has_transparency_data)


def _is_picture(source):
    return isinstance(source, Image.Image) or is_file(source)
