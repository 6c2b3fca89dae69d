"""Damaged and odd photos and masks, through reading, filling and writing."""

import functools
import io
import struct
import warnings

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, PngImagePlugin
from torch import nn

from refine_lib import inpaint_photo, split_network
from refine_lib.photos.files import read_photo
from refine_lib.photos.formats import ENDINGS

HEIGHT, WIDTH = 24, 32
PIXELS = np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8)
HOLE = np.zeros((HEIGHT, WIDTH), np.uint8)
HOLE[8:16, 10:20] = 255
KINDS = (OSError, ValueError, MemoryError)  # of errors that may come
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@functools.cache
def network():
    """A split network that takes milliseconds."""
    torch.manual_seed(0)
    return split_network(
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.Sigmoid()), 2
    )


def whole_files():
    """Files of every format and many modes, as bytes, by the endings of their names."""
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x0112: 6, 0x8769: {0x9003: "2026:01:01 00:00:00", 0xA002: WIDTH}})
    notes = {
        "exif": exif.tobytes(),
        "xmp": b"<x:xmpmeta><xmp:Thumbnails>abc</xmp:Thumbnails></x:xmpmeta>",
        "icc_profile": bytes(200),
    }
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a picture")
    text.add(b"gAMA", struct.pack(">I", 45455))
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    modes = {mode: Image.fromarray(PIXELS).convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I")}
    wanted = [
        *((".jpg", modes[mode], notes | {"comment": b"said"}) for mode in ("L", "RGB", "CMYK")),
        (".jpg", modes["RGB"], {"progressive": True, "quality": 30}),
        *((".png", modes[mode], notes | {"pnginfo": text}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        (".png", modes["P"], {"transparency": 3}),
        (".png", deep, {}),
        *(
            (".tif", modes[mode], {"compression": c})
            for mode in ("1", "L", "RGB", "F")
            for c in ("raw", "tiff_lzw", "tiff_deflate")
        ),
        (".tif", deep, {"compression": "raw", "exif": notes["exif"]}),
        *((".webp", modes[mode], notes | {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (True, False)),
        *((".avif", modes[mode], notes) for mode in ("RGB", "RGBA") if ".avif" in ENDINGS),
        (".gif", modes["P"], {"comment": b"said"}),
        (".gif", modes["P"], {"save_all": True, "append_images": [modes["P"]]}),
        (".bmp", modes["RGB"], {}),
        (".ppm", modes["RGB"], {}),
    ]
    found = []
    for ending, image, options in wanted:
        file = io.BytesIO()
        image.save(file, {".jpg": "JPEG", ".tif": "TIFF"}.get(ending, ending[1:].upper()), **options)
        found.append((ending, file.getvalue()))
    colors = PIXELS * np.uint16(257) ^ np.uint16(77)  # of 16 bits a channel, which Pillow does not write
    for pixels in (colors, colors[..., :3].copy()):
        found.append((".png", cv2.imencode(".png", pixels)[1].tobytes()))
        for compression in (None, "zlib"):
            file = io.BytesIO()
            extra = [2] if pixels.shape[2] == 4 else []
            tifffile.imwrite(file, pixels, photometric="rgb", extrasamples=extra, compression=compression, metadata=None)
            found.append((".tif", file.getvalue()))
    return found


def as_rgba(image):
    """Pixels that can be compared, whatever the mode of a ``Photo.image``."""
    deep = isinstance(image, np.ndarray) or image.mode == "I;16"
    return np.asarray(image if deep else image.convert("RGBA"))


def changed(content, rng):
    """A file with a few changes: bytes, numbers, parts that are left out, doubled or moved, an early end."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        place, other = (rng.randrange(max(1, len(content))) for _ in range(2))
        early = rng.randrange(min(200, len(content)) or 1)  # where the headers are
        part = content[min(place, other) : min(place, other) + rng.choice([1, 2, 4, 12, 100])]
        how = rng.randrange(7)
        if how == 0 and content:
            content[rng.choice([place, early]) % len(content)] = rng.randrange(256)
        elif how == 1 and content:
            content[rng.choice([place, early]) % len(content)] ^= 1 << rng.randrange(8)
        elif how == 2:
            number = struct.pack(rng.choice(["<I", ">I", "<H", ">H"]).replace("H", "I"), rng.choice(NUMBERS))
            at, n = rng.choice([place, early]), rng.choice([2, 4])
            content[at : at + n] = number[:n]
        elif how == 3:
            del content[place : place + len(part)]
        elif how == 4:
            content[place:place] = part * rng.choice([1, 1, 50])
        elif how == 5:
            content[place : place + len(part)] = part
        else:
            del content[place:]
    return bytes(content)


def _drawn():
    """Masks with transparency and arrays."""
    whole = np.full_like(HOLE, 255)
    pictures = {
        "erased from black": (PIXELS[..., :3] * 0, whole - HOLE),
        "erased from the photo": (PIXELS[..., :3], whole - HOLE),
        "drawn": (PIXELS[..., :3] * 0 + 255, HOLE),
        "soft": (PIXELS[..., :3] * 0, whole - HOLE // 3 * 2),
    }
    for colors, alpha in pictures.values():
        file = io.BytesIO()
        Image.fromarray(np.dstack([colors, alpha])).save(file, "PNG")
        yield ".png", file.getvalue()
    for array in (HOLE, HOLE > 0, HOLE / 255, (HOLE > 0).astype(int)[None], HOLE.astype(object)):
        file = io.BytesIO()
        np.save(file, array)
        yield ".npy", file.getvalue()


DRAWN = list(_drawn())


def cases(rng):
    """Yields (name, (photo, mask, settings)): two files as (ending, bytes), and what ``inpaint_photo`` is told."""
    files = whole_files()
    hole = io.BytesIO()
    Image.fromarray(HOLE).save(hole, "PNG")
    n = 0
    while True:
        n += 1
        photo, mask = rng.choice(files), (".png", hole.getvalue())
        if rng.random() < 0.8:
            photo = photo[0], changed(photo[1], rng)
        if rng.random() < 0.5:
            mask = rng.choice([*files, *DRAWN])
            mask = mask[0], changed(mask[1], rng) if rng.random() < 0.5 else mask[1]
        settings = {
            "windows": rng.choice(["auto", "always", "never"]),
            "dilation": rng.choice([0, 0, 1, 3, 1000]),
            "soft_edge": rng.choice([0, 0, 0.5, 4, 1e9]),
            "threshold": rng.choice([0.5, 0.5, 0.01, 0.99]),
            "context": rng.choice([0.5, 0, 7, 1e200]),
            "invert": rng.random() < 0.2,
        }
        if rng.random() < 0.2:
            settings |= {"soft_mask": True, "dilation": 0, "soft_edge": 0, "threshold": 0.5}
        if rng.random() < 0.1:
            mask = None
        yield f"photo{n}{photo[0]}", (photo, mask, rng.choice(list(ENDINGS)), settings)


def try_case(case, folder):
    """Raises AssertionError unless the photo comes back right, or an error of the known kinds names a file or an argument."""
    photo, mask, ending, settings = case
    paths = folder / f"photo{photo[0]}", folder / f"mask{mask[0]}" if mask else None
    for path, given in zip(paths, (photo, mask), strict=True):
        if path:
            path.write_bytes(given[1])
    output = folder / f"filled{ending}"
    try:
        with warnings.catch_warnings(action="ignore"):
            fast = {"smallest_scale": 16, "n_iters": 1, "erosion": 1, "progress": False}
            done = inpaint_photo(*paths, output, network(), **fast, **settings)
    except KINDS as error:
        assert any(word in str(error) for word in ("photo", "mask", "output", "memory")), f"a nameless {error!r}"
        assert not output.exists(), "an output in spite of the error"
        return f"refused: {type(error).__name__}"
    written, kept = read_photo(output), np.asarray(done.mask[0, 0] == 0)
    assert written.size == kept.shape[::-1], f"{written.size} was written, {kept.shape[::-1]} wanted"
    if ending in (".png", ".tif", ".tiff") or ending == ".webp" and not written.details["lossy"]:
        same = np.array_equal(as_rgba(written.image)[kept], as_rgba(done.image)[kept])
        assert same, "the file is another picture than the result"
    return "filled"
