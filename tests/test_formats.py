"""Files of every kind: colors of 16 bits, compression, palettes, qualities, and the photo's way up."""

import base64
import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin, features
from skimage import data

from refine_lib.__main__ import main
from refine_lib.photos.files import check_output, read_photo, write_photo
from refine_lib.photos.formats import ENDINGS
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.photos.opened import opened
from refine_lib.photos.pixels import load_photo, to_pixels

FAST = dict(smallest_scale=48, n_iters=1, erosion=3, progress=False)
PIXELS = data.astronaut()[:96, 160:288]
HOLE = np.zeros((96, 128), bool)
HOLE[30:60, 40:80] = True
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description%s>a note</rdf:Description></x:xmpmeta>'
DEEP = PIXELS * np.uint16(257) ^ np.arange(96 * 128 * 3, dtype=np.uint16).reshape(PIXELS.shape) % 251  # all bits in use
CLEAR = np.dstack([DEEP, DEEP[..., :1] // 2 + 9])
needs_avif = pytest.mark.skipif(".avif" not in ENDINGS, reason="this Pillow has no AVIF")


def notes(orientation=1, **more):
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", orientation
    tags.update({getattr(ExifTags.Base, name): value for name, value in more.items()})
    tags.get_ifd(0x8769)[0xA434] = "Lens"
    tags.get_ifd(0x8825)[1] = "N"
    return {"exif": tags.tobytes(), "icc_profile": b"a profile", "dpi": (300, 300), "xmp": XMP % b""}


def check_notes(path):
    with Image.open(path) as image:
        tags = image.getexif()
        assert (tags[0x010F], tags.get_ifd(0x8769)[0xA434], tags.get_ifd(0x8825)[1]) == ("Maker", "Lens", "N")
        assert 0x0112 not in tags and image.info["icc_profile"] == b"a profile" and image.info["xmp"] == XMP % b""
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def in_file(image, format, **options):
    """The bytes of a file that Pillow writes."""
    file = BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, format, **options)
    return file.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def deep_png(pixels):
    return cv2.imencode(".png", cv2.cvtColor(pixels, {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[pixels.shape[2]]))[
        1
    ].tobytes()


def deep_tiff(pixels, **layout):
    file = BytesIO()
    extra = {"extrasamples": [2]} if pixels.shape[-1] == 4 or pixels.shape[0] == 4 else {}
    tifffile.imwrite(file, pixels, photometric="rgb", metadata=None, **extra | layout)
    return file.getvalue()


def read_by_others(path):
    """Pixels of 16 bits, as other programs than this one read them."""
    if path.suffix == ".tif":
        return tifffile.imread(path)
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(read, {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[read.shape[2]])


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_each_level_of_16_bits_survives_outside_the_hole(tiny_single, tmp_path, ending, channels):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = np.dstack([levels, levels.T, levels[::-1], 65535 - levels // 3])[..., :channels]
    (tmp_path / f"photo{ending}").write_bytes(deep_png(pixels) if ending == ".png" else deep_tiff(pixels))
    hole = np.zeros((256, 256), bool)
    hole[100:160, 90:150] = True
    out = tmp_path / f"out{ending}"
    done = inpaint_photo(tmp_path / f"photo{ending}", Image.fromarray(hole), out, tiny_single, **FAST)
    found = read_by_others(out)
    assert found.dtype == np.uint16 and np.array_equal(found[~hole], pixels[~hole])
    assert (found != pixels).any(axis=2)[hole].mean() > 0.9
    assert all(len(np.unique(found[hole][:, channel])) > 256 for channel in range(3))
    assert channels == 3 or (found[..., 3][hole] == 65535).all()
    assert isinstance(done.image, np.ndarray) and np.array_equal(done.image, found)
    assert str(done).startswith(f"{tmp_path / 'photo'}{ending}: 256 px wide, 256 px high")
    other = tmp_path / {".png": "other.tif", ".tif": "other.png"}[ending]
    done.save(other)
    assert np.array_equal(read_by_others(other), found)


LAYOUTS = {
    "plain": {},
    "the upper byte first": {"byteorder": ">"},
    "Deflate": {"compression": "zlib"},
    "differences": {"compression": "zlib", "predictor": 2},
    "differences, the upper byte first": {"compression": "zlib", "predictor": 2, "byteorder": ">"},
    "tiles": {"tile": (32, 32)},
    "tiles, Deflate": {"tile": (32, 32), "compression": "zlib"},
    "strips": {"rowsperstrip": 7},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pixels", [DEEP, CLEAR], ids=["RGB", "RGBA"])
def test_a_tiff_of_16_bits_may_be_laid_out_in_any_way(layout, pixels, tmp_path):
    photo = read_photo(BytesIO(deep_tiff(pixels, **LAYOUTS[layout])))
    assert np.array_equal(np.asarray(photo.image), pixels) and photo.size == photo.stored_size == (128, 96)
    write_photo(photo.image, tmp_path / "a.tif", photo)
    assert np.array_equal(np.asarray(read_photo(tmp_path / "a.tif").image), pixels)
    with Image.open(tmp_path / "a.tif") as written:
        assert written.info["compression"] == ("tiff_adobe_deflate" if "compression" in LAYOUTS[layout] else "raw")


@pytest.mark.parametrize("source", ["png", "tif"])
@pytest.mark.parametrize("target", ["png", "tif"])
def test_a_photo_of_16_bits_keeps_what_its_file_says(source, target, tmp_path):
    said = notes(6)
    said["pnginfo"] = PngImagePlugin.PngInfo()
    said["pnginfo"].add_itxt("XML:com.adobe.xmp", said.pop("xmp"))
    shallow, deep = in_file(np.rot90(PIXELS), "PNG", **said), deep_png(np.rot90(DEEP).copy())
    first = deep[:33] + shallow[33 : shallow.index(b"IDAT") - 4] + deep[33:]  # with all chunks that say something
    (tmp_path / "first.png").write_bytes(first)
    for before, after in (("first.png", f"second.{source}"), (f"second.{source}", f"third.{target}")):
        photo = read_photo(tmp_path / before)
        assert np.array_equal(np.asarray(photo.image), DEEP) and photo.size == (128, 96)
        write_photo(photo.image, tmp_path / after, photo)
        check_notes(tmp_path / after)
        assert np.array_equal(read_by_others(tmp_path / after), DEEP)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_turned_tiff_of_16_bits_comes_upright(orientation, compression):
    turns = [(274, "H", 1, orientation, True)]
    content = deep_tiff(DEEP, compression=compression, extratags=turns)
    shallow = deep_tiff((DEEP >> 8).astype(np.uint8), compression=compression, extratags=turns)
    found = np.asarray(read_photo(BytesIO(content)).image)
    assert np.array_equal(found >> 8, np.asarray(read_photo(BytesIO(shallow)).image))
    assert np.array_equal(np.sort(found.ravel()), np.sort(DEEP.ravel()))
    assert (orientation == 1) == np.array_equal(found, DEEP)


def test_a_png_of_16_bits_keeps_its_texts_and_how_it_describes_its_colors(tmp_path):
    content, said = deep_png(DEEP), chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"tEXt", b"Author\0me")
    photo = read_photo(BytesIO(content[:33] + said + content[33:]))
    write_photo(photo.image, tmp_path / "a.png", photo)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["gamma"] == 1 and image.text == {"Author": "me"}
    with pytest.raises(ValueError, match="has 16 bits a channel, which JPEG does not hold; expected output to end in .png"):
        write_photo(photo.image, tmp_path / "a.jpg", photo)
    transparent = content[:33] + chunk(b"tRNS", bytes(6)) + content[33:]
    with pytest.raises(ValueError, match="has 16 bits a channel and 0 for white, or a transparent value"):
        read_photo(BytesIO(transparent))


def test_colors_of_16_bits_that_pillow_does_not_keep_apart_are_refused():
    planes = deep_tiff(np.moveaxis(DEEP, 2, 0).copy(), planarconfig="separate")
    with pytest.raises(ValueError, match="has 16 bits a channel in planes; expected the channels of a pixel side by side"):
        read_photo(BytesIO(planes))
    with pytest.raises(ValueError, match="has 16 bits a channel; expected 8 or 16 .colors of 16 bits: the path"):
        read_photo(BytesIO(deep_tiff(CLEAR, extrasamples=[1])))  # colors that are multiplied by the alpha
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 4, 0, 0, 0))  # gray with alpha
    gray = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(32 * (1 + 32 * 4)))) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="has 16 bits a channel; expected 8 or 16 .colors of 16 bits: the path"):
        read_photo(BytesIO(gray))
    loaded = Image.open(BytesIO(deep_tiff(DEEP)))
    loaded.load()
    with pytest.raises(ValueError, match="has 16 bits a channel; expected 8 or 16 .colors of 16 bits: the path"):
        read_photo(loaded)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_a_tiff_stays_compressed_as_it_was(tmp_path, mode, compression, predictor):
    flat = Image.fromarray(DEEP[..., 0] // 4096 * 4096) if mode == "I;16" else Image.fromarray(PIXELS // 64 * 64).convert(mode)
    before = in_file(flat, "TIFF", compression=compression, tiffinfo={317: predictor})
    photo = read_photo(BytesIO(before))
    photo.notes.update(read_photo(BytesIO(in_file(flat, "TIFF", **notes(XMLPacket=XMP % b"")))).notes)
    write_photo(photo.image, tmp_path / "a.tif", photo)
    check_notes(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as found:
        assert found.info["compression"] == compression and found.mode == mode
        assert np.array_equal(np.asarray(found), np.asarray(flat))
    if compression != "raw":
        assert (tmp_path / "a.tif").stat().st_size < len(before) + 1000
        assert np.array_equal(np.asarray(read_photo(tmp_path / "a.tif").image), np.asarray(flat))


def test_a_tiff_of_a_lossy_or_rare_compression_becomes_deflate(tmp_path):
    photo = read_photo(BytesIO(in_file(PIXELS, "TIFF", compression="jpeg")))
    write_photo(photo.image, tmp_path / "a.tif", photo)
    with Image.open(tmp_path / "a.tif") as found:
        assert found.info["compression"] == "tiff_adobe_deflate" and found.tag_v2[317] == 2
        assert np.array_equal(np.asarray(found), np.asarray(photo.image))


def is_lossy(path):
    return b"VP8 " in path.read_bytes()[:64]


def change(path, pixels):
    with Image.open(path) as image:
        return np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(pixels)).mean()


def test_a_webp_stays_with_loss_or_without(tmp_path):
    for options in ({"lossless": True}, {"quality": 80}, {"quality": 80, "exif": notes()["exif"], "icc_profile": b"VP8 L"}):
        content = in_file(PIXELS, "WEBP", **options)
        photo, out = read_photo(BytesIO(content)), tmp_path / f"{len(options)}{'quality' in options}.webp"
        write_photo(photo.image, out, photo)
        assert is_lossy(out) == ("quality" in options)
        assert out.stat().st_size < 3 * len(content)
        assert (change(out, photo.image) == 0) == ("lossless" in options) and change(out, photo.image) < 2
    photo = read_photo(Image.fromarray(PIXELS))
    write_photo(photo.image, tmp_path / "new.webp", photo)
    assert change(tmp_path / "new.webp", PIXELS) == 0


@pytest.mark.parametrize("ending", [".jpg", ".webp", pytest.param(".avif", marks=needs_avif)])
def test_a_quality_makes_a_file_small_or_true(ending, tmp_path):
    photo = read_photo(Image.fromarray(PIXELS))
    paths = [tmp_path / f"{quality}{ending}" for quality in (1, 30, 60, 90, 100)]
    for path in paths:
        write_photo(photo.image, path, photo, quality=int(path.stem))
    sizes, changes = [path.stat().st_size for path in paths], [change(path, photo.image) for path in paths]
    assert sizes == sorted(sizes) and sizes[-1] > 4 * sizes[0]
    assert changes == sorted(changes, reverse=True) and changes[0] > 4 * changes[-1]
    for quality in (0, 101, 50.5, True, "high", float("nan")):
        with pytest.raises(ValueError, match="quality is .*; expected a whole number of 1 to 100"):
            write_photo(photo.image, tmp_path / f"none{ending}", photo, quality=quality)
    assert not (tmp_path / f"none{ending}").exists()


def test_a_quality_reaches_the_file_from_the_library_and_from_the_command(tiny_single, tmp_path, capsys):
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg", quality=90)
    Image.fromarray(HOLE).save(tmp_path / "mask.png")
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    done = inpaint_photo(photo, mask, tmp_path / "own.jpg", tiny_single, **FAST)
    inpaint_photo(photo, mask, tmp_path / "20.jpg", tiny_single, quality=20, **FAST)
    done.save(tmp_path / "again.jpg", quality=20)
    with pytest.raises(ValueError, match="quality is 0; expected a whole number of 1 to 100"):
        inpaint_photo(photo, mask, tmp_path / "none.jpg", tiny_single, quality=0, **FAST)
    command = [str(photo), str(mask), "--network", "mini-lama", "--device", "cpu", "--n-iters", "0", "--quiet"]
    assert main([*command, "-o", str(tmp_path / "command.jpg"), "--quality", "20"]) == 0
    with pytest.raises(SystemExit):
        main([*command, "-o", str(tmp_path / "none.jpg"), "--quality", "101"])
    assert "quality is 101; expected a whole number of 1 to 100" in capsys.readouterr().err
    tables = {}
    for name in ("photo", "own", "20", "again", "command"):
        with Image.open(tmp_path / f"{name}.jpg") as image:
            tables[name] = image.quantization[0]
    assert tables["own"] == tables["photo"] != tables["20"] == tables["again"] == tables["command"]
    assert not (tmp_path / "none.jpg").exists()


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP"])
def test_a_palette_stays_one_where_it_holds_what_is_filled(format, tmp_path):
    few = Image.fromarray(PIXELS).quantize(200)
    clear = {"transparency": few.getpixel((3, 3))} if format != "BMP" else {}
    photo = read_photo(BytesIO(in_file(few, format, **clear)))
    room, given = photo.image.copy(), np.asarray(photo.image)
    for number in range(256 - len(photo.image.getcolors())):
        room.putpixel((40 + number % 30, 30 + number // 30), (255, number, 9, 255)[: len(room.mode)])
    write_photo(room, tmp_path / "room.png", photo)
    full = room.copy()
    full.putpixel((70, 50), (1, 2, 3, 255)[: len(room.mode)])
    write_photo(full, tmp_path / "full.png", photo)
    with Image.open(tmp_path / "room.png") as a, Image.open(tmp_path / "full.png") as b:
        assert a.mode == "P" and b.mode == photo.image.mode
        assert np.array_equal(np.asarray(a.convert(b.mode)), np.asarray(room)) and np.array_equal(
            np.asarray(b), np.asarray(full)
        )
        assert np.array_equal(np.asarray(a.convert(b.mode))[~HOLE], given[~HOLE])
    plain = read_photo(Image.new("RGB", (32, 32), "teal"))
    write_photo(plain.image, tmp_path / "plain.png", plain)
    with Image.open(tmp_path / "plain.png") as image:
        assert image.mode == "RGB"  # which had none


@needs_avif
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_avif_comes_in_and_goes_out(tiny_single, tmp_path, mode):
    said = notes(6)
    del said["dpi"]
    lying = Image.fromarray(np.rot90(PIXELS if mode == "RGB" else CLEAR // 256).astype(np.uint8))
    lying.save(tmp_path / "photo.avif", quality=90, subsampling="4:2:2", **said)
    inpaint_photo(tmp_path / "photo.avif", Image.fromarray(HOLE), tmp_path / "out.avif", tiny_single, **FAST)
    given, found = read_photo(tmp_path / "photo.avif"), read_photo(tmp_path / "out.avif")
    assert given.size == found.size == (128, 96) and given.mode == found.mode == mode
    assert given.details["subsampling"] == found.details["subsampling"] == 1
    assert np.abs(np.asarray(given.image).astype(int) - np.asarray(found.image))[~HOLE].mean() < 2
    with Image.open(tmp_path / "out.avif") as image:
        tags = image.getexif()
        assert (tags[0x010F], tags.get_ifd(0x8769)[0xA434], tags.get(0x0112, 1)) == ("Maker", "Lens", 1)
        assert image.info["icc_profile"] == b"a profile" and image.info["xmp"] == XMP % b""


# An AVIF of 16 x 16 px in one gray, of 10 bits a channel, which Pillow reads as 8 and does not write.
AVIF_OF_10_BITS = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAA"
    "AAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAGwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFD"
    "b2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAEAAAABAAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJu"
    "Y2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAI21kYXQSAAoIOAz/28CAgaQyDRlCYwTAADQAABB1hWE="
)


@needs_avif
def test_an_avif_of_10_bits_is_refused():
    with pytest.raises(ValueError, match="the file has 10 bits a channel; expected 8 or 16 "):
        read_photo(BytesIO(AVIF_OF_10_BITS))


def test_a_heic_comes_in_and_goes_out(tiny_single, tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    said = notes(6)
    del said["dpi"]
    lying = Image.fromarray(np.rot90(PIXELS).copy())
    lying.save(tmp_path / "photo.heic", "HEIF", quality=90, **said)
    for ending in (".heic", ".png"):
        done = inpaint_photo(tmp_path / "photo.heic", Image.fromarray(HOLE), tmp_path / f"out{ending}", tiny_single, **FAST)
        assert done.image.size == (128, 96)
        with Image.open(tmp_path / f"out{ending}") as image:
            assert np.abs(np.asarray(image).astype(int) - np.asarray(done.image))[~HOLE].mean() < (
                2 if ending == ".heic" else 1e-9
            )
            assert image.getexif()[0x010F] == "Maker" and image.getexif().get(0x0112, 1) == 1
            assert image.info["icc_profile"] == b"a profile" and image.info["xmp"] == XMP % b""
    deep = heif.from_bytes("RGB;16", (96, 128), np.rot90(DEEP).tobytes())
    deep.save(tmp_path / "deep.heic")
    with pytest.raises(ValueError, match="deep.heic has 10 bits a channel; expected 8"):
        read_photo(tmp_path / "deep.heic")


@pytest.mark.parametrize("ending, words", [(".avif", "install Pillow 11.3 or newer"), (".heic", "'refine_lib.photos.'")])
def test_what_reads_a_picture_is_said_where_it_is_missing(ending, words, tmp_path):
    path = tmp_path / f"photo{ending}"
    path.write_bytes(b"\0\0\0\x1cftypheic")
    with pytest.raises(ValueError, match=f"photo{ending} cannot be read as a picture: .*{words}.*, or save a copy in another"):
        with opened(path, ("JPEG", "PNG"), "photo", "the path of a picture"):
            pass
    if ending not in ENDINGS:
        with pytest.raises(ValueError, match=words):
            read_photo(path)
        with pytest.raises(ValueError, match=f"expected a name that ends in one of .jpg.*; to write {ending}, .*{words}"):
            check_output(tmp_path / f"out{ending}")


def test_avif_is_there_where_pillow_has_it():
    assert (".avif" in ENDINGS) == ("avif" in features.modules and features.check("avif"))


SAYS = {"an attribute": (b' tiff:Orientation="6"', b""), "an element": (b"", b"<tiff:Orientation>6</tiff:Orientation>")}


@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize("orientation", [None, 1, 3])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", pytest.param("AVIF", marks=needs_avif)])
def test_a_photo_is_turned_by_its_exif_data_alone(format, orientation, says, tmp_path):
    attribute, element = SAYS[says]
    xmp = (XMP % attribute).replace(b"a note", b"a note" + element)
    tags, options = Image.Exif(), {}
    if orientation:
        tags[0x0112] = orientation
    tags[0x010F] = "Maker"
    if format == "TIFF":
        tags[700] = xmp
    elif format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    else:
        options["xmp"] = xmp
    options |= {"WEBP": {"lossless": True}, "JPEG": {"quality": 98}, "AVIF": {"quality": 98}}.get(format, {})
    path = tmp_path / "photo"
    path.write_bytes(in_file(PIXELS, format, exif=tags.tobytes() if format != "TIFF" else tags, **options))
    wanted = np.rot90(PIXELS, 2) if orientation == 3 else PIXELS
    photo = read_photo(path)
    assert photo.size == photo.stored_size == (128, 96)
    assert np.abs(np.asarray(photo.image).astype(int) - wanted).mean() < 3
    assert photo.notes["xmp"] == XMP % b""
    assert np.abs(to_pixels(load_photo(path)).astype(int) - wanted).mean() < 3
    for ending in ENDINGS:
        write_photo(photo.image, tmp_path / f"out{ending}", photo)
        with Image.open(tmp_path / f"out{ending}") as image:
            assert image.getexif().get(0x0112, 1) == 1 and image.size == (128, 96)


def test_xmp_data_of_which_the_turn_cannot_be_cut_out_are_not_kept():
    wide = (XMP % b' tiff:Orientation="6"').decode().encode("utf-16")
    assert "xmp" not in read_photo(BytesIO(in_file(PIXELS, "JPEG", xmp=wide))).notes
