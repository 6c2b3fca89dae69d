"""Holes as people draw them: erased, soft, inverted, of 0 and 1, as arrays."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from refine_lib import NothingToRefine, inpaint_photo
from refine_lib.photos import work

FAST = dict(smallest_scale=48, n_iters=1, erosion=3, progress=False)
PIXELS = data.astronaut()[:96, 160:288]
PHOTO = Image.fromarray(PIXELS)
HOLE = np.zeros((96, 128), bool)
HOLE[30:60, 40:80] = True
RIM = HOLE.copy()
RIM[29:61, 39:81] = True
RIM &= ~HOLE  # a pixel wide
NEW = [230, 26, 153]


@pytest.fixture
def painted(monkeypatch, tiny_single):
    """A network that is not run: what is filled has the color ``NEW``."""

    def paint(image, mask, model, **_):
        new = (torch.tensor(NEW) / 255).view(1, 3, 1, 1).expand_as(image)
        return SimpleNamespace(image=new, stopped=False, message="", note="")

    monkeypatch.setattr(work, "multiscale_inpaint", paint)
    return tiny_single


def filled(photo, mask, network, **settings):
    """What ``inpaint_photo`` makes: the colors, (H, W, 3), int; the transparency, or None; what it says."""
    done = inpaint_photo(photo, mask, None, network, **FAST | settings)
    pixels = np.asarray(done.image).astype(int)
    return pixels[..., :3], pixels[..., 3] if pixels.shape[2] == 4 else None, done


def with_alpha(pixels, alpha):
    return Image.fromarray(np.dstack([np.broadcast_to(pixels, (96, 128, 3)), alpha]).astype(np.uint8))


def is_new(colors):
    return (colors == NEW).all(axis=2)


def hole_of(mask, network, photo=PHOTO, **settings):
    """(H, W), bool: where a photo comes back changed. What is not new is bit for bit as it was."""
    colors, _, done = filled(photo, mask, network, **settings)
    new = is_new(colors)
    assert np.array_equal(colors[~new], np.asarray(photo)[~new][..., :3]) and np.array_equal(new, done.mask[0, 0] > 0)
    return new


# What was erased from the photo itself


@pytest.mark.parametrize("windows", ["never", "always"])
def test_without_a_mask_what_was_erased_is_filled_and_what_was_under_it_is_not_used(tiny_single, windows):
    results = []
    for below in (0, 255, PIXELS[::-1]):
        photo = with_alpha(np.where(HOLE[..., None], below, PIXELS), np.where(HOLE, 0, 255))
        colors, alpha, done = filled(photo, None, tiny_single, windows=windows)
        assert (alpha == 255).all() and np.array_equal(colors[~HOLE], PIXELS[~HOLE]) and done.message == ""
        assert np.array_equal(done.mask[0, 0] > 0, HOLE)
        results.append(colors)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
    by_mask, _, _ = filled(PHOTO, Image.fromarray(HOLE), tiny_single, windows=windows)
    assert np.array_equal(results[0], by_mask)


def test_what_is_partly_transparent_at_the_rim_is_laid_over_what_is_filled(painted):
    photo = with_alpha(PIXELS, np.select([HOLE, RIM], [0, 51], 255))
    colors, alpha, done = filled(photo, None, painted)
    assert (alpha == 255).all() and is_new(colors)[HOLE].all() and np.array_equal(done.mask[0, 0] > 0, HOLE | RIM)
    assert np.abs(colors[RIM] - (0.8 * np.array(NEW) + 0.2 * PIXELS[RIM])).max() <= 0.5
    for settings in ({"dilation": 2}, {"soft_edge": 3}):  # no color that was erased comes back
        assert is_new(filled(photo, None, painted, **settings)[0])[HOLE].all()
    assert is_new(filled(photo, None, painted, dilation=2)[0])[HOLE | RIM].all()


def test_what_a_mode_calls_transparent_may_be_erased(painted, tmp_path):
    gray = Image.fromarray(np.dstack([PIXELS[..., 1], np.where(HOLE, 0, 255).astype(np.uint8)]), "LA")
    done = inpaint_photo(gray, None, None, painted, **FAST)
    assert np.asarray(done.image)[~HOLE].tolist() == np.asarray(gray)[~HOLE].tolist() and done.image.mode == "LA"
    palette = Image.fromarray(np.where(HOLE, 9, PIXELS[..., 0] % 8).astype(np.uint8), "P")
    palette.putpalette(list(range(30)))
    palette.save(tmp_path / "palette.png", transparency=9)
    colors, alpha, _ = filled(tmp_path / "palette.png", None, painted)
    assert np.array_equal(is_new(colors), HOLE) and (alpha == 255).all()


NOT_ERASED = {
    "opaque": PHOTO,
    "gray": PHOTO.convert("L"),
    "opaque all over": with_alpha(PIXELS, np.full((96, 128), 255)),
    "transparent all over": with_alpha(PIXELS, np.zeros((96, 128))),
    "nowhere wholly transparent": with_alpha(PIXELS, np.where(HOLE, 1, 255)),
    "nowhere opaque": with_alpha(PIXELS, np.where(HOLE, 0, 254)),
    "partly transparent elsewhere": with_alpha(PIXELS, np.where(HOLE, 0, np.where(np.arange(128) < 9, 128, 255))),
}


@pytest.mark.parametrize("case", NOT_ERASED)
def test_without_a_mask_and_an_erased_area_there_is_no_hole(painted, case, tmp_path):
    with pytest.raises(
        ValueError, match="there is no mask, and the file has no area .*; expected a mask, or a photo with an erased"
    ):
        inpaint_photo(NOT_ERASED[case], output=tmp_path / "out.png", network=painted, **FAST)
    assert not list(tmp_path.iterdir())


# What was erased from a mask


@pytest.mark.parametrize("below", [0, 255])
@pytest.mark.parametrize("color", [0, 255])
@pytest.mark.parametrize("kind", ["LA", "RGBA", "P"])
def test_a_hole_that_was_erased_from_one_color_is_what_was_erased(painted, kind, color, below, tmp_path):
    pixels = np.where(HOLE[..., None], [below, 0], [color, 255]).astype(np.uint8)
    mask = Image.fromarray(HOLE.astype(np.uint8), "P") if kind == "P" else Image.fromarray(pixels, "LA").convert(kind)
    if kind == "P":
        mask.putpalette([color] * 3 + [below] * 3)
    mask.save(tmp_path / "mask.png", **({"transparency": 1} if kind == "P" else {}))
    assert np.array_equal(hole_of(tmp_path / "mask.png", painted), HOLE)
    done = inpaint_photo(PHOTO, tmp_path / "mask.png", None, painted, **FAST)
    assert done.message == f"The hole is what was erased from {tmp_path / 'mask.png'}."


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_hole_that_was_erased_from_a_copy_of_the_photo_is_what_was_erased(painted, mode):
    photo = PHOTO.convert(mode)
    copy = photo.convert("RGBA")
    copy.putalpha(Image.fromarray(np.select([HOLE, RIM], [0, 100], 255).astype(np.uint8)))
    done = inpaint_photo(photo, copy, None, painted, **FAST)
    assert np.array_equal(done.mask[0, 0] > 0, HOLE | RIM) and "what was erased from" in done.message
    assert np.array_equal(np.asarray(done.image)[~(HOLE | RIM)], np.asarray(photo)[~(HOLE | RIM)])


BORDER = np.ones((96, 128), bool)
BORDER[10:-10, 10:-10] = False
UNCLEAR = {
    "colors of another picture": (PIXELS[::-1], HOLE),
    "the thing alone, cut out of the photo": (PIXELS, ~HOLE),
    "most of the photo, cut out": (PIXELS, np.pad(np.zeros((90, 122), bool), 3, constant_values=True)),
    "drawn in black": (0, ~HOLE),
    "drawn in black, most of it": (0, np.pad(np.zeros((90, 122), bool), 3, constant_values=True)),
    "drawn in white, most of it and a side": (255, np.arange(128) < 20),
    "black with more erased than left": (0, ~BORDER),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_a_mask_that_could_mean_either_is_refused(painted, case):
    colors, clear = UNCLEAR[case]
    mask = with_alpha(colors, np.where(np.broadcast_to(clear, (96, 128)), 0, 255))
    with pytest.raises(ValueError, match="what is drawn could be the hole, or what was erased; expected white on"):
        inpaint_photo(PHOTO, mask, None, painted, **FAST)


def test_a_mask_that_is_half_erased_everywhere_is_refused(painted):
    mask = with_alpha(0, np.where(HOLE, 100, 255))
    with pytest.raises(ValueError, match="what is drawn could be the hole, or what was erased"):
        inpaint_photo(PHOTO, mask, None, painted, **FAST)
    window = with_alpha(PIXELS, np.where(np.roll(HOLE, 30, 0), 0, 255))  # of the photo, which is no hole
    copy = with_alpha(PIXELS, np.where(HOLE | np.roll(HOLE, 30, 0), 0, 255))
    with pytest.raises(ValueError, match="several colors and transparency"):
        inpaint_photo(window, copy, None, painted, **FAST)
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    with pytest.raises(ValueError, match="several colors and transparency"):  # 8 bits of the mask tell nothing of 16
        inpaint_photo(deep, with_alpha(PIXELS[..., :1], np.where(HOLE, 0, 255)), None, painted, **FAST)


# Gray, black, and arrays


@pytest.mark.parametrize("kind", ["picture", "array", "16 bits", "erased"])
def test_a_soft_mask_is_the_share_of_what_is_filled(painted, kind):
    share = np.zeros((96, 128))
    share[20:70, 30:90] = np.linspace(0, 255, 60).round()[None]
    mask = {
        "picture": Image.fromarray(share.astype(np.uint8)),
        "array": share / 255,
        "16 bits": Image.fromarray(share.astype(np.uint16) * 257),
        "erased": with_alpha(PIXELS, 255 - share),
    }[kind]
    colors, _, done = filled(PHOTO, mask, painted, soft_mask=True)
    part = share[..., None] / 255
    assert np.abs(colors - (part * NEW + (1 - part) * PIXELS)).max() <= 0.51
    assert np.array_equal(colors[share == 0], PIXELS[share == 0]) and is_new(colors)[share == 255].all()
    assert np.array_equal(done.mask[0, 0] > 0, share > 0)


def test_a_soft_mask_on_a_transparent_photo_shows_no_color_that_is_not_seen(painted):
    photo = with_alpha(PIXELS, np.where(np.arange(128) < 60, 0, 255) * np.ones((96, 1)))
    colors, alpha, _ = filled(photo, Image.fromarray(HOLE * np.uint8(128)), painted, soft_mask=True)
    assert is_new(colors)[30:60, 40:60].all() and (alpha[HOLE] == 255).all() and (alpha[~HOLE][:9] == 0).all()
    assert np.abs(colors[30:60, 60:80] - (128 * np.array(NEW) + 127 * PIXELS[30:60, 60:80].astype(int)) / 255).max() <= 0.51


def test_a_soft_mask_of_16_bit_gray_blends_in_16_bits(painted):
    photo = Image.fromarray(np.zeros((96, 128), np.uint16))
    done = inpaint_photo(photo, np.where(HOLE, 0.5, 0.0), None, painted, soft_mask=True, **FAST)
    whole = inpaint_photo(photo, HOLE, None, painted, **FAST)
    assert np.asarray(done.image)[45, 60] == round(int(np.asarray(whole.image)[45, 60]) / 2)


@pytest.mark.parametrize("with_it", [{"soft_edge": 2}, {"dilation": 1}, {"threshold": 0.2}])
def test_a_soft_mask_goes_without_what_would_change_its_gray(painted, with_it):
    [(name, value)] = with_it.items()
    with pytest.raises(
        ValueError, match=f"soft_mask is True and {name} is {value:.1f}|{value}; expected 0.*the mask's own gray"
    ):
        inpaint_photo(PHOTO, HOLE, None, painted, soft_mask=True, **with_it, **FAST)
    with pytest.raises(ValueError, match="invert is 'no'; expected True or False"):
        inpaint_photo(PHOTO, HOLE, None, painted, invert="no", **FAST)
    with pytest.raises(ValueError, match="soft_mask is array.*; expected True or False"):
        inpaint_photo(PHOTO, HOLE, None, painted, soft_mask=HOLE, **FAST)


INVERTED = {
    "black and white": Image.fromarray(~HOLE),
    "gray": Image.fromarray(np.where(HOLE, 127, 128).astype(np.uint8)),
    "16 bits": Image.fromarray(np.where(HOLE, 0, 65535).astype(np.uint16)),
    "0 and 1": Image.fromarray((~HOLE).astype(np.uint8)),
    "array": ~HOLE,
}


@pytest.mark.parametrize("case", INVERTED)
def test_inverted_black_is_the_hole(painted, case):
    assert np.array_equal(hole_of(INVERTED[case], painted, invert=True), HOLE)


def test_what_cannot_be_inverted_is_refused(painted):
    for mask in (with_alpha(255, HOLE * 255), with_alpha(0, ~HOLE * 255)):
        with pytest.raises(ValueError, match="has transparency, and invert is True; expected a mask without"):
            inpaint_photo(PHOTO, mask, None, painted, invert=True, **FAST)
    with pytest.raises(ValueError, match="there is no mask, and invert is True; expected a mask"):
        inpaint_photo(with_alpha(PIXELS, ~HOLE * 255), None, None, painted, invert=True, **FAST)


ONES = {
    "8 bits": Image.fromarray(HOLE.astype(np.uint8)),
    "16 bits": Image.fromarray(HOLE.astype(np.uint16)),
    "opaque": Image.fromarray(np.dstack([HOLE, HOLE * 0 + 255]).astype(np.uint8), "LA"),
    "bool": HOLE,
    "uint8": HOLE.astype(np.uint8),
    "uint8 up to 255": HOLE.astype(np.uint8) * 255,
    "int64": HOLE.astype(int),
    "big-endian": HOLE.astype(">i4"),
    "float16": HOLE.astype(np.float16),
    "a channel behind": HOLE[..., None],
    "a channel before": HOLE[None].astype(np.float32),
    "columns first": np.asfortranarray(HOLE),
}


@pytest.mark.parametrize("case", ONES)
def test_ones_are_white(painted, case, tmp_path):
    mask = ONES[case]
    path = tmp_path / ("mask.NPY" if isinstance(mask, np.ndarray) else "mask.png")
    if isinstance(mask, np.ndarray):
        with open(path, "wb") as file:
            np.save(file, mask)
    else:
        mask.save(path)
    assert np.array_equal(hole_of(mask, painted, threshold=0.99), HOLE)
    assert np.array_equal(hole_of(str(path), painted, threshold=0.01), HOLE)


def test_numbers_that_are_dark_are_no_hole_and_that_is_said(painted):
    jpeg = io.BytesIO()
    Image.fromarray(HOLE.astype(np.uint8)).save(jpeg, "JPEG", quality=100)  # noise, for all that one can tell
    indices = Image.fromarray(HOLE.astype(np.uint8), "P")
    indices.putpalette([0, 0, 0, 60, 0, 0])
    empty = with_alpha(255, np.zeros((96, 128)))  # nothing is drawn on transparent ground, which a program keeps as white
    with pytest.warns(NothingToRefine, match="no hole, nothing above 50% of white: the photo"):
        assert not hole_of(empty, painted).any()
    cases = (HOLE * np.uint8(3), "1.2%"), (Image.fromarray(HOLE * np.uint8(3)), "1.2%"), (jpeg, "0.4%"), (indices, "7.1%")
    for mask, brightest in cases:
        with pytest.warns(NothingToRefine, match=f"no hole, nothing above 50% of white .its brightest is {brightest}.: the"):
            assert not hole_of(mask, painted).any()


WRONG_ARRAYS = {
    "nan": (np.where(HOLE, np.nan, 0), "mask has values of type float64 between nan and nan; expected bool, integers 0 and 1"),
    "above 1": (HOLE * 1.5, "mask has values of type float64 between 0.0 and 1.5"),
    "below 0": (HOLE * -1, "mask has values of type int64 between -1 and 0"),
    "labels": (HOLE * 3, "mask has values of type int64 between 0 and 3"),
    "objects": (HOLE.astype(object), r"mask has shape \(96, 128\) and type object; expected numbers of shape \(H, W\)"),
    "complex": (HOLE * 1j, "type complex128; expected numbers"),
    "letters": (HOLE.astype(str), "type <U5; expected numbers"),
    "colors": (np.dstack([HOLE] * 3), r"mask has shape \(96, 128, 3\) and type bool; expected numbers of shape \(H, W\)"),
    "a row": (HOLE[0], r"mask has shape \(128,\)"),
    "turned": (HOLE.T, "mask is 96 px wide and 128 px high, the file is 128 px wide and 96 px high; expected the same"),
    "empty": (np.zeros((0, 128)), "mask is 128 px wide and 0 px high"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_an_array_that_is_no_mask_is_refused_in_words(painted, case):
    array, words = WRONG_ARRAYS[case]
    with pytest.raises(ValueError, match=words):
        inpaint_photo(PHOTO, array, None, painted, **FAST)


def test_a_file_of_an_array_runs_nothing_and_takes_no_memory_before_it_is_looked_at(painted, tmp_path):
    path, header = tmp_path / "mask.npy", np.lib.format.write_array_header_1_0
    with open(path, "wb") as file:  # 4 TB of numbers, of which the file has none but holes
        header(file, {"descr": "<f8", "fortran_order": False, "shape": (700_000, 700_000)})
        file.truncate(file.tell() + 8 * 700_000**2)
    with pytest.raises(ValueError, match="mask is 700000 px wide and 700000 px high"):
        inpaint_photo(PHOTO, path, None, painted, **FAST)
    contents = {"objects": HOLE.astype(object), "archive": None, "cut": HOLE, "text": None}
    for name, array in contents.items():
        with open(path, "wb") as file:
            if name == "archive":
                np.savez(file, HOLE)
            elif array is None:
                file.write(b"no array")
            else:
                np.save(file, array)
        if name == "cut":
            path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ValueError, match="mask.npy cannot be read as an array: "):
            inpaint_photo(PHOTO, path, None, painted, **FAST)
    with pytest.raises(FileNotFoundError, match="mask is 'nowhere.npy'; expected the path of a picture"):
        inpaint_photo(PHOTO, "nowhere.npy", None, painted, **FAST)


def test_a_mask_stays_as_it_was(painted):
    for mask in (HOLE.copy(), HOLE.astype(np.float32)):
        before = mask.copy()
        inpaint_photo(PHOTO, mask, None, painted, invert=True, dilation=2, **FAST)
        assert np.array_equal(mask, before)
