"""Photos and masks as tensors, and back; photo files with all that they hold."""

import base64
import os
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
import torch
from conftest import picture
from PIL import Image, PngImagePlugin
from skimage import data

from refine_lib import random_scenes, stroke_masks
from refine_lib.photos.exif import upright
from refine_lib.photos.files import check_holds, check_output, read_photo, without_pictures, write_photo
from refine_lib.photos.formats import ENDINGS, FORMATS
from refine_lib.photos.holes import read_hole
from refine_lib.photos.pixels import BUILT_IN, load_mask, load_photo, save_photo, to_image, to_pixels
from refine_lib.whole import whole_file

PIXELS = data.chelsea()[:96, 100:228]
DEEP = PIXELS[..., 1] * np.uint16(257) ^ np.uint16(77)  # 16-bit gray
HOLE = np.zeros((96, 128), bool)
HOLE[30:60, 40:80] = True


@pytest.mark.parametrize("name", BUILT_IN)
def test_photos_come_as_tensors_and_go_back_bit_for_bit(name, tmp_path):
    photo = load_photo(name)
    assert photo.ndim == 4 and photo.shape[1] == 3 and photo.dtype == torch.float32
    assert 0.5 < photo.max() <= 1 and photo.min() >= 0
    save_photo(photo, tmp_path / "photo.png")
    assert torch.equal(load_photo(tmp_path / "photo.png"), photo)
    assert np.array_equal(to_pixels(picture()[1]), picture()[1][0, 0].numpy(force=True).astype(np.uint8) * 255)


def test_a_photo_is_turned_upright_and_of_8_bits(tmp_path):
    pixels = to_pixels(load_photo("chelsea"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown, the first row is the right side
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(to_pixels(load_photo(tmp_path / "turned.png")), np.rot90(pixels, -1))
    Image.fromarray(np.full((20, 20), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="pixels of mode I;16; expected 8 bits a channel"):
        load_photo(tmp_path / "deep.png")


def test_a_photo_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="name_or_path is 'cat.png'; expected one of 'astronaut'"):
        load_photo("cat.png")


def test_a_mask_is_what_is_brighter_than_half(tmp_path):
    mask = stroke_masks((40, 60), seed=1)
    save_photo(mask, tmp_path / "mask.png")
    assert torch.equal(load_mask(tmp_path / "mask.png"), mask)
    save_photo(mask, tmp_path / "noisy.jpg")  # a lossy file leaves no pixel of the known part quite black
    noisy = np.asarray(Image.open(tmp_path / "noisy.jpg"))
    assert not set(np.unique(noisy)) <= {0, 255}
    assert torch.equal(load_mask(tmp_path / "noisy.jpg"), mask)
    with pytest.raises(FileNotFoundError, match="path is 'hole.png'; expected the path of a picture, white where the hole is"):
        load_mask("hole.png")


def test_a_photo_is_no_mask(tmp_path):
    Image.fromarray(to_pixels(load_photo("chelsea"))).save(tmp_path / "chelsea.png")
    with pytest.raises(ValueError, match="is a photo: .* of it is gray; expected a mask"):
        load_mask(tmp_path / "chelsea.png")
    flat = np.full((40, 40), 150, np.uint8)  # of one gray: drawn
    flat[:20] = 0
    Image.fromarray(flat).save(tmp_path / "flat.png")
    assert load_mask(tmp_path / "flat.png")[0, 0, 20:].all()


def test_nothing_is_written_over(tmp_path):
    save_photo(random_scenes(32, seed=1), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(FileExistsError, match="a.png', which is there already; expected a new name"):
        save_photo(random_scenes(32, seed=2), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before


def test_pixels_of_16_bits_and_gray_ones_come_back_bit_for_bit():
    assert np.array_equal(to_pixels(to_image(DEEP)[:, :1], np.uint16), DEEP)
    assert np.array_equal(to_pixels(to_image(PIXELS)), PIXELS)
    every_value = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_pixels(to_image(every_value)[:, :1], np.uint16), every_value)
    gray = to_image(PIXELS[..., 0])
    assert gray.shape == (1, 3, 96, 128) and torch.equal(gray[:, 0], gray[:, 2])


def camera_exif(orientation=6, size=(128, 96), order="<"):
    """EXIF data as a camera lays them out: two directories, notes of the maker that point into the data, and a thumbnail."""

    def entry(tag, kind, count, value):
        value = value if isinstance(value, bytes) else struct.pack(order + ("H2x" if kind == 3 else "I"), value)
        return struct.pack(order + "HHI", tag, kind, count) + value

    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    details = 8 + 2 + 3 * 12 + 4  # behind the head and the main directory, of three entries
    following = details + 2 + 3 * 12 + 4
    after = following + 2 + 2 * 12 + 4
    name, notes, thumbnail = "Jürgen\0".encode(), b"notes of the maker", b"\xff\xd8what was in the hole\xff\xd9"
    directories = [
        [entry(0x010F, 2, len(name), after), entry(0x0112, 3, 1, orientation), entry(0x8769, 4, 1, details)],
        [entry(0x927C, 7, len(notes), after + len(name)), entry(0xA002, 4, 1, size[0]), entry(0xA003, 3, 1, size[1])],
        [entry(0x0201, 4, 1, after + len(name + notes)), entry(0x0202, 4, 1, len(thumbnail))],
    ]
    laid_out = [struct.pack(order + "H", len(d)) + b"".join(d) for d in directories]
    nexts = [struct.pack(order + "I", n) for n in (following, 0, 0)]
    return b"Exif\0\0" + head + b"".join(d + n for d, n in zip(laid_out, nexts, strict=True)) + name + notes + thumbnail


@pytest.mark.parametrize("order", "<>")
def test_exif_data_lose_orientation_and_thumbnail_and_nothing_moves(order):
    before = camera_exif(order=order)
    after = upright(before, (96, 128))
    assert len(after) == len(before)
    for kept in ("Jürgen".encode(), b"notes of the maker"):
        assert after.index(kept) == before.index(kept)
    assert b"what was in the hole" in before and b"what was in the hole" not in after
    read = Image.Exif()
    read.load(after)
    details = read.get_ifd(0x8769)
    assert set(read) == {0x010F, 0x8769} and not read.get_ifd(1)
    assert (details[0xA002], details[0xA003]) == (96, 128) and details[0x927C] == b"notes of the maker"
    assert upright(after, (96, 128)) == after and upright(b"", (1, 1)) == b""
    with pytest.raises(ValueError, match="the EXIF data are damaged"):
        upright(before[:40], (96, 128))
    with pytest.raises(ValueError, match="the EXIF data are damaged"):
        upright(b"Exif\0\0no TIFF", (96, 128))


def test_an_editors_pictures_go_and_no_other_tag():
    tags = Image.Exif()
    tags.update({0x010F: "Maker", 0x0112: 6, 700: b"hole in XMP", 34377: b"hole of an editor", 37724: b"layers: hole"})
    tags[0xA300] = b"kept"
    read = Image.Exif()
    read.load(upright(tags.tobytes(), (96, 128)))
    assert dict(read) == {0x010F: "Maker", 0xA300: b"kept"} and b"hole" not in upright(tags.tobytes(), (96, 128))


def exif_of_strips(order, mismatched=False):
    """EXIF data with notes of the maker right behind the directories, and a thumbnail of bare pixels in two strips."""
    number, short = order + "I", order + "HHIHH"
    notes, strips = b"notes of the maker, of some length", (b"what was", b" in the hole")
    following = 8 + 2 + 12 + 4
    after = following + 2 + 2 * 12 + 4
    lists = after + len(notes)
    first = lists + 8
    places = struct.pack(order + "II", first, first + len(strips[0]))
    main = struct.pack(order + "HHHII", 1, 0x927C, 7, len(notes), after) + struct.pack(number, following)
    lengths = struct.pack(short, 279, 3, 1 if mismatched else 2, len(strips[0]), len(strips[1]))
    small = struct.pack(order + "HHHII", 2, 273, 4, 2, lists) + lengths
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(number, 8)
    return b"Exif\0\0" + head + main + small + bytes(4) + notes + places + b"".join(strips)


@pytest.mark.parametrize("order", "<>")
def test_a_thumbnail_of_two_strips_is_blanked_and_nothing_else(order):
    before = exif_of_strips(order)
    after = upright(before, (96, 128))
    assert before.endswith(b"what was in the hole") and after == before[: 6 + 22] + bytes(4) + before[6 + 26 : -20] + bytes(20)
    with pytest.raises(ValueError, match="the EXIF data are damaged"):  # which bytes are the thumbnail is not known
        upright(exif_of_strips(order, mismatched=True), (96, 128))


def test_a_thumbnail_that_would_lie_in_the_directory_is_damage():
    data = bytearray(camera_exif())
    struct.pack_into("<I", data, data.index(struct.pack("<HHI", 0x0201, 4, 1)) + 8, 10)
    with pytest.raises(ValueError, match="the EXIF data are damaged: a picture would lie in the directory, from byte 10 on"):
        upright(data, (96, 128))


def xmp(inside):
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmp:Rating="5">' + inside + b"</rdf:Description></x:xmpmeta>"


@pytest.mark.parametrize("target", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_small_copies_in_xmp_data_and_an_editors_resources_go(source, target, tmp_path):
    small = b'<rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:image>/9j/hole</xmpGImg:image></rdf:li></rdf:Alt>'
    tags = Image.Exif()
    tags[0x010F], tags[34377] = "Maker", b"8BIM a picture of the hole"
    said = xmp(b'<xmp:Thumbnails a="1">\n' + small + b"</xmp:Thumbnails><dc:title>kept</dc:title><xmp:Thumbnails/>")
    notes = {"xmp": said}
    if source == "TIFF":
        tags[700] = said
    if source == "PNG":
        notes["pnginfo"] = PngImagePlugin.PngInfo()
        notes["pnginfo"].add_itxt("XML:com.adobe.xmp", said)
    photo = read_photo(BytesIO(in_file(PIXELS, source, exif=tags, **notes)))
    write_photo(photo.image, tmp_path / f"a.{target}", photo)
    with Image.open(tmp_path / f"a.{target}") as image:
        assert image.info["xmp"] == xmp(b"<dc:title>kept</dc:title>")
        assert image.getexif()[0x010F] == "Maker" and 34377 not in image.getexif()
    assert b"hole" not in (tmp_path / f"a.{target}").read_bytes()


def test_xmp_data_of_which_a_picture_cannot_be_cut_out_are_not_kept():
    kept = xmp(b"<xmp:ThumbnailsAreNot/>").replace(b"Thumbnails", b"Thumbs")
    assert without_pictures(kept) == kept
    for shown in (b"<xmp:Thumbnails>cut off", b'<a GImage:Data="/9j/"/>', b"<xmpGImg:image>/9j/</xmpGImg:image>"):
        assert without_pictures(xmp(shown)) == b""
    assert without_pictures(xmp(b"<xmp:Thumbnails>/9j/</xmp:Thumbnails>").decode().encode("utf-16")) == b""


JUNK = {
    "no TIFF": b"Exif\0\0no TIFF",
    "zeros": b"Exif\0\0" + bytes(40),
    "cut off": camera_exif()[:40],
    "no directory": b"Exif\0\0II*\0\xff\xff\0\0",
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("case", JUNK)
@pytest.mark.filterwarnings("ignore:(Corrupt|Truncated)")
def test_damaged_exif_data_are_left_out_and_that_is_said(case, format, tmp_path):
    content = in_file(PIXELS, format, exif=JUNK[case], icc_profile=b"a profile")
    photo = read_photo(BytesIO(content))
    assert photo.message == "The EXIF data of the file are damaged and were left out." and photo.notes["exif"] == b""
    assert photo.notes["icc_profile"] == b"a profile"
    if case != "cut off":  # else it still says how the camera was turned
        assert np.array_equal(np.asarray(photo.image), np.asarray(Image.open(BytesIO(content)).convert("RGB")))
    write_photo(photo.image, tmp_path / "a.png", photo)
    assert b"eXIf" not in (tmp_path / "a.png").read_bytes()
    (tmp_path / "photo").write_bytes(content)
    assert load_photo(tmp_path / "photo").numel() == PIXELS.size and read_hole(tmp_path / "photo").share.size == HOLE.size


def test_good_exif_data_are_no_message():
    assert read_photo(BytesIO(in_file(PIXELS, "JPEG", exif=camera_exif()))).message == ""
    assert read_photo(BytesIO(in_file(PIXELS, "PNG"))).message == ""


def png(pixels, chunks=(), **texts):
    """The bytes of a PNG with chunks, (name, content) each, and texts."""
    info = PngImagePlugin.PngInfo()
    for name, content in chunks:
        info.add(name, content)
    for keyword, words in texts.items():
        info.add_text(keyword, words)
    return in_file(pixels, "PNG", pnginfo=info)


WIDE = (b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600))
LIKE_SRGB = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
LINEAR, LIKE_SRGBS_GAMMA = (b"gAMA", struct.pack(">I", 100000)), (b"gAMA", struct.pack(">I", 45455))


def test_a_png_keeps_what_it_says_of_its_colors_and_its_texts(tmp_path):
    author, title = "J\u00fcrgen", PngImagePlugin.iTXt("\u732b", "zh", "\u984c")
    content = png(PIXELS, [LINEAR, WIDE, (b"cICP", b"\x09\x10\0\1")], Author=author, Title=title, dpi="none", gamma="none")
    photo = read_photo(BytesIO(content))
    write_photo(photo.image, tmp_path / "a.png", photo)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {"Author": author, "Title": title, "dpi": "none", "gamma": "none"}
        assert (image.text["Title"].lang, image.text["Title"].tkey) == ("zh", "\u984c")
        assert image.info["chromaticity"][2] == 0.708
    written = (tmp_path / "a.png").read_bytes()
    assert all(name + said in written for name, said in (LINEAR, WIDE, (b"cICP", b"\x09\x10\0\1")))
    photo = read_photo(BytesIO(png(PIXELS, [LIKE_SRGBS_GAMMA, LIKE_SRGB, (b"sRGB", b"\1")])))
    write_photo(photo.image, tmp_path / "b.png", photo)
    with Image.open(tmp_path / "b.png") as image:
        assert (image.info["gamma"], image.info["srgb"]) == (0.45455, 1)


@pytest.mark.parametrize("ending", ["jpg", "tif", "webp"])
def test_a_format_that_would_show_other_colors_is_refused(ending):
    format = ENDINGS[f".{ending}"].name
    words = f"has a gamma or primaries of its own .*, which {format} does not hold; expected output to end in"
    for chunks in ([LINEAR], [WIDE], [(b"cICP", b"\x09\x10\0\1")], [(b"cICP", b"\x09\x10\0\1"), (b"sRGB", b"\0")]):
        photo = read_photo(BytesIO(png(PIXELS, chunks)))
        check_holds("a.png", photo)
        with pytest.raises(ValueError, match=words):
            check_holds(f"a.{ending}", photo)
    for chunks in ([], [LIKE_SRGBS_GAMMA, LIKE_SRGB], [LINEAR, (b"sRGB", b"\0")], [(b"cICP", b"\1\x0d\0\1"), LINEAR]):
        check_holds(f"a.{ending}", read_photo(BytesIO(png(PIXELS, chunks))))


def test_a_jpeg_keeps_its_comment(tmp_path):
    photo = read_photo(BytesIO(in_file(PIXELS, "JPEG", comment=b"on the beach")))
    for ending in ("jpg", "png", "tif", "webp"):
        write_photo(Image.fromarray(PIXELS), tmp_path / f"a.{ending}", photo)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["comment"] == b"on the beach"


def test_of_a_png_that_is_loaded_the_file_is_looked_at_or_it_is_refused(tmp_path):
    content, path = png_of_16_bits(PIXELS * np.uint16(257)), tmp_path / "deep.png"
    path.write_bytes(content)
    loaded = Image.open(path)
    loaded.load()
    assert loaded.mode == "RGB"
    with pytest.raises(
        ValueError, match="deep.png has 16 bits a channel; expected 8 or 16 .colors of 16 bits: the path of a PNG or TIFF"
    ):
        read_photo(loaded)
    path.unlink()
    words = "is a PNG that is loaded already, whose file cannot be looked at; expected its path"
    with pytest.raises(ValueError, match=f"deep.png {words}"):
        read_photo(loaded)
    Image.fromarray(PIXELS[:50]).save(path)  # another one
    with pytest.raises(ValueError, match=f"deep.png {words}"):
        read_photo(loaded)
    nowhere = Image.open(BytesIO(content))
    nowhere.load()
    with pytest.raises(ValueError, match=f"the file {words}"):
        read_photo(nowhere)
    Image.fromarray(PIXELS).save(path)
    with Image.open(path) as shallow:
        shallow.load()
        assert np.array_equal(np.asarray(read_photo(shallow).image), PIXELS)


def png_of_16_bits(pixels):
    """A PNG file of uint16 pixels (H, W, 3), which Pillow reads as 8 bits and does not write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def in_file(pixels, format, mode=None, **notes):
    """The bytes of a file that Pillow writes."""
    file = BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, format, **notes)
    return file.getvalue()


def tiff(pixels, **layout):
    file = BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, **layout)
    return file.getvalue()


FRAMES = {"save_all": True, "append_images": [Image.fromarray(PIXELS[::-1].copy())]}
REFUSED = {
    "no picture": (b"a letter", "cannot be read as a picture"),
    "cut off": (in_file(PIXELS, "JPEG")[:2000], "cannot be read as a picture: image file is truncated"),
    "CMYK": (in_file(PIXELS, "TIFF", "CMYK"), "has CMYK colors; expected RGB or gray: convert it first"),
    "CMYK JPEG": (in_file(PIXELS, "JPEG", "CMYK"), "has CMYK colors"),
    "floats": (tiff(DEEP.astype(np.float32)), "has 32-bit fractions; expected RGB or gray"),
    "integers": (tiff(DEEP.astype(np.int32)), "has 32-bit whole numbers"),
    "white is 0": (tiff(DEEP, photometric="miniswhite"), "has 16 bits a channel and 0 for white, or a transparent value"),
    "a transparent gray": (
        in_file(DEEP, "PNG", transparency=9),
        "has 16 bits a channel and 0 for white, or a transparent value",
    ),
    "animation": (in_file(PIXELS, "GIF", **FRAMES), "holds 2 pictures, pages or an animation; expected one"),
    "moving PNG": (in_file(PIXELS, "PNG", **FRAMES), "holds 2 pictures"),
    "pages": (in_file(PIXELS, "TIFF", **FRAMES), "holds 2 pictures"),
    "raw": (tiff(PIXELS, photometric="rgb", subfiletype=1), "begins with a small copy, as a camera's raw files do; develop it"),
    "small": (in_file(PIXELS[:12], "PNG"), "is 128 px wide and 12 px high; expected at least 16 px a side"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:(Truncated|Corrupt|Tag data)")
def test_a_photo_of_which_something_would_be_lost_is_refused_in_words(case, tmp_path):
    content, words = REFUSED[case]
    (tmp_path / "photo").write_bytes(content)
    with pytest.raises(ValueError, match=words) as raised:
        read_photo(tmp_path / "photo")
    assert str(tmp_path / "photo") in str(raised.value)


# A gray JPEG of 32 x 24 px whose codes are arithmetic (jpegtran -arithmetic), as Photoshop and cameras never write them.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//yQALCAAYACABAREA/8wABgAQEAX/2gAIAQEAAD8A0b0NIqBiS64Q97PeZup8gSv5yXtRu5Bwo1oFdnJh"
    "fMJjiWNp0VA/i4J2xUb64yYo3Obf97IBmlUq3Tlf9FELCxuMBisxoD+wFwIUKgqjm2XmxFR0pJhghxAXeX9pKIwYEP/Z"
)


def test_a_jpeg_of_arithmetic_codes_is_read_and_written_as_others_are(tmp_path):
    photo = read_photo(BytesIO(ARITHMETIC))
    assert photo.image.size == (32, 24) and np.asarray(photo.image).astype(int).sum() == 131161
    write_photo(photo.image, tmp_path / "a.jpg", photo)
    with Image.open(tmp_path / "a.jpg") as written:
        assert np.abs(np.asarray(written).astype(int) - np.asarray(photo.image)).max() <= 2


def test_a_photo_comes_from_a_path_a_file_or_a_picture(tmp_path):
    content = in_file(PIXELS, "JPEG", exif=camera_exif(), dpi=(300, 300))
    (tmp_path / "photo.jpg").write_bytes(content)
    opened = Image.open(BytesIO(content))
    for source in (tmp_path / "photo.jpg", str(tmp_path / "photo.jpg"), BytesIO(content), opened):
        photo = read_photo(source)
        assert photo.image.size == (96, 128) and photo.stored_size == (128, 96)
        assert photo.notes["exif"] == upright(camera_exif(), (96, 128)) and photo.notes["dpi"] == (300, 300)
    assert opened.getexif()[0x0112] == 6 and opened.size == (128, 96)  # the caller's own is left as it was
    assert read_photo(Image.fromarray(PIXELS)).name == "the file"
    with pytest.raises(FileNotFoundError, match="photo is 'cat.jpg'; expected the path of a picture"):
        read_photo("cat.jpg")


def test_of_a_phones_several_pictures_in_one_jpeg_the_first_is_taken():
    photo = read_photo(BytesIO(in_file(PIXELS, "MPO", **FRAMES)))
    assert np.array_equal(np.asarray(photo.image), np.asarray(Image.open(BytesIO(in_file(PIXELS, "JPEG")))))


MASKS = {
    "1": HOLE,
    "L": HOLE.astype(np.uint8) * 200,
    "I;16": HOLE.astype(np.uint16) * 50000,
    "LA": np.dstack([HOLE * 255, HOLE * 0 + 255]).astype(np.uint8),
    "RGB": HOLE[..., None] * np.array([255, 255, 240], np.uint8),
    "opaque": HOLE[..., None] * np.array([255, 255, 255, 0], np.uint8) + np.array([0, 0, 0, 255], np.uint8),
    "drawn in white": np.dstack([np.full((96, 128, 3), 255), HOLE * 255]).astype(np.uint8),
    "drawn in red, clear is white": np.where(HOLE[..., None], [200, 0, 0, 255], [255, 255, 255, 0]).astype(np.uint8),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_mask_may_be_of_any_mode(name, format):
    assert np.array_equal(read_hole(BytesIO(in_file(MASKS[name], format))).share > 0.5, HOLE)


def test_a_mask_may_have_a_palette_or_a_turned_camera():
    palette = Image.fromarray(HOLE.astype(np.uint8), "P")
    palette.putpalette([20, 20, 20, 230, 230, 230])
    assert np.array_equal(read_hole(palette).share > 0.5, HOLE)
    file = BytesIO()
    palette.save(file, "PNG", transparency=0)  # drawn in one color on transparent ground
    assert np.array_equal(read_hole(file).share > 0.5, HOLE)
    turned = in_file(np.rot90(HOLE).astype(np.uint8) * 255, "PNG", exif=camera_exif(6))
    assert np.array_equal(read_hole(BytesIO(turned)).share > 0.5, HOLE)


def test_the_threshold_is_a_share_of_white():
    steps = np.repeat(np.arange(256, dtype=np.uint8), 2).reshape(16, 32)
    for threshold, brightest_known in ((0.5, 127), (0.1, 25), (0.9, 229)):
        hole = read_hole(Image.fromarray(steps)).share > threshold
        assert steps[~hole].max() == brightest_known and steps[hole].min() == brightest_known + 1
    deep = np.array([[32767, 32768]], np.uint16).repeat(16, 0)
    assert (read_hole(Image.fromarray(deep)).share > 0.5).any(0).tolist() == [False, True]


def test_a_mask_that_does_not_tell_what_it_means_is_refused():
    erased = np.dstack([PIXELS, np.where(HOLE, 0, 255)]).astype(np.uint8)
    with pytest.raises(
        ValueError, match="has several colors and transparency: what is drawn could be the hole, or what was erased"
    ):
        read_hole(Image.fromarray(erased))
    with pytest.raises(ValueError, match="has pixels of mode F, whose white is unknown"):
        read_hole(Image.fromarray(PIXELS[..., 0].astype(np.float32)))
    with pytest.raises(ValueError, match="holds 2 pictures"):
        read_hole(BytesIO(in_file(PIXELS, "GIF", **FRAMES)))
    with pytest.raises(FileNotFoundError, match="mask is 'hole.png'; expected the path of a picture, white where the hole is"):
        read_hole("hole.png")


def test_a_profile_that_a_png_cannot_give_back_is_refused_before_the_work():
    photo = read_photo(BytesIO(in_file(PIXELS, "JPEG", icc_profile=bytes(2**21))))
    with pytest.raises(
        ValueError, match="cannot be read again when it is written as PNG: .*; expected output to end in .jpg or .tif"
    ):
        check_holds("photo.png", photo)
    check_holds("photo.jpg", photo)


def test_what_a_format_does_not_hold_is_refused(tmp_path):
    clear = read_photo(Image.fromarray(np.dstack([PIXELS, PIXELS[..., :1]])))
    deep = read_photo(Image.fromarray(DEEP))
    for photo, ending, words in (
        (clear, "jpg", "has transparency, which JPEG does not hold; expected output to end in .png or .tif"),
        (deep, "jpeg", "has 16 bits a channel, which JPEG does not hold"),
        (deep, "webp", "has 16 bits a channel, which WEBP does not hold"),
    ):
        with pytest.raises(ValueError, match=words):
            check_holds(f"photo.{ending}", photo)
        with pytest.raises(ValueError, match=words):
            write_photo(photo.image, tmp_path / f"photo.{ending}", photo)
    wide = read_photo(Image.new("L", (16384, 16)))
    with pytest.raises(ValueError, match="is 16384 px wide and 16 px high, and WEBP holds 16383 px"):
        check_holds("photo.webp", wide)
    check_holds("photo.jpg", wide)
    clear.notes["exif"] += bytes(70000)
    check_holds("photo.png", clear)
    opaque = read_photo(BytesIO(in_file(PIXELS, "PNG", exif=camera_exif() + bytes(70000))))
    with pytest.raises(ValueError, match="cannot be written as JPEG: EXIF data is too long"):
        check_holds("photo.jpg", opaque)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", [f for f in FORMATS if f.modes], ids=lambda f: f.name)
def test_a_format_of_the_table_is_written_in_every_mode_that_it_holds(format, tmp_path):
    for mode in format.modes:
        if mode.endswith(";16"):
            channels = [DEEP] * 3 if mode == "RGB;16" else [DEEP] * (1 + 3 * ("A" in mode))
            photo = read_photo(BytesIO(tiff(np.dstack(channels).squeeze(), extrasamples=[2] * ("A" in mode))))
        else:
            image = Image.fromarray(PIXELS).convert(mode)
            if mode.endswith("A"):
                image.putalpha(Image.fromarray(PIXELS[..., 2]))
            photo = read_photo(image)
        assert photo.mode == mode
        for suffix in format.suffixes:
            write_photo(photo.image, tmp_path / f"{mode}{suffix}".replace(";", ""), photo)
    written = sorted(tmp_path.iterdir())
    assert len(written) == len(format.modes) * len(format.suffixes)
    for path in written:
        with Image.open(path) as image:
            assert image.format == format.name and image.size == (128, 96)
            assert image.has_transparency_data == ("A" in path.stem)


def test_an_output_is_checked_before_there_is_anything_to_write(tmp_path):
    (tmp_path / "there.png").touch()
    with pytest.raises(ValueError, match="output is 'a.psd'; expected a name that ends in one of .jpg, .jpeg, .png, .tif"):
        check_output("a.psd")
    with pytest.raises(FileNotFoundError, match="whose folder is not there"):
        check_output(tmp_path / "nowhere" / "a.png")
    with pytest.raises(FileExistsError, match="there.png', which is there already; expected a new name, or to overwrite it"):
        check_output(tmp_path / "there.png")
    check_output(tmp_path / "there.png", overwrite=True)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing.png")
    for name in ("folder.png", "pipe.png", "link.png"):
        with pytest.raises(FileExistsError, match="which is there already"):
            check_output(tmp_path / name, overwrite=name != "link.png")
    for name in ("x" * 245 + ".png", "x" * 300 + ".png", "a\0b.png"):  # of the first the name of a stopped run is too long
        with pytest.raises(OSError, match="where no file can be written .*; expected another place or name"):
            check_output(tmp_path / name)
    with pytest.raises(OSError, match="where no file can be written"):
        check_output("/proc/a.png")


def test_an_output_is_never_what_the_work_reads(tmp_path):
    for name in ("photo.png", "mask.png"):
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "link.png").symlink_to("photo.png")
    (tmp_path / "other.png").hardlink_to(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        for name in ("photo.png", "mask.png", "link.png", "other.png", f"../{tmp_path.name}/photo.png"):
            with pytest.raises(FileExistsError, match="which is a photo or a mask of the work; expected another name"):
                check_output(tmp_path / name, overwrite=True, sources=[str(tmp_path / "photo.png"), mask, BytesIO()])
    with pytest.raises(FileExistsError, match="which is a photo or a mask of the work"):
        write_photo(Image.fromarray(PIXELS), tmp_path / "photo.png", read_photo(tmp_path / "photo.png"), overwrite=True)


class Trouble:
    """A picture in the midst of whose writing something happens."""

    def __init__(self, happens):
        self.happens = happens

    def save(self, file, format, **notes):
        Image.fromarray(PIXELS).save(file, format, **notes)
        self.happens()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    photo, path = read_photo(Image.fromarray(PIXELS)), tmp_path / "a.png"

    def full_disk():
        raise OSError("no space left")

    with pytest.raises(OSError, match="output is .*a.png', which could not be written: no space left"):
        write_photo(Trouble(full_disk), path, photo)
    assert not list(tmp_path.iterdir())
    path.write_text("was there")
    with pytest.raises(OSError, match="no space left"):
        write_photo(Trouble(full_disk), path, photo, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_text() == "was there"
    path.unlink()

    rival = Trouble(lambda: path.write_text("came meanwhile"))
    with pytest.raises(FileExistsError, match="a.png', which came meanwhile; expected a new name"):
        write_photo(rival, path, photo)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_text() == "came meanwhile"
    write_photo(rival, path, photo, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and np.array_equal(np.asarray(Image.open(path)), PIXELS)


def test_an_interruption_leaves_no_empty_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"

    def write():
        with whole_file(path, overwrite=False) as part:
            part.write_text("whole")

    def interrupted(*_):
        raise KeyboardInterrupt

    def no_links(*_):
        raise PermissionError("this file system has no links")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)  # which is not needed where there are links
        write()
        path.unlink()
        patch.setattr(os, "link", no_links)
        with pytest.raises(KeyboardInterrupt):
            write()
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr(os, "link", no_links)
    write()
    with pytest.raises(FileExistsError):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "whole"
