"""Outpainting: a photo on a larger canvas, whose new area is filled."""

import functools

import numpy as np
import pytest
from conftest import photo_in_mode
from PIL import Image
from skimage import data

from refine_lib import __main__ as command
from refine_lib.photos import inpaint, work
from refine_lib.photos.inpaint import inpaint_photo

FAST = dict(smallest_scale=48, n_iters=1, erosion=3, progress=False)
PIXELS = data.astronaut()[:96, 160:288]
SIDES = (5, 40, 0, 24)  # top, right, bottom, left
OLD = (slice(5, 101), slice(24, 152))  # where the photo is then
FARTHER = "The photo was extended. Quality falls with the distance from what was there."


in_mode = functools.partial(photo_in_mode, PIXELS)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_the_old_pixels_come_back_bit_for_bit_at_their_new_place(tiny_single, tmp_path, mode, ending):
    photo = in_mode(mode)
    done = inpaint_photo(photo, None, tmp_path / f"out{ending}", tiny_single, extend=SIDES, **FAST)
    with Image.open(tmp_path / f"out{ending}") as file:
        found = np.asarray(file)
        assert file.mode == mode and file.size == done.image.size == (128 + 64, 96 + 5)
    assert np.array_equal(found[OLD], np.asarray(photo))
    new = np.ones(found.shape[:2], bool)
    new[OLD] = False
    assert np.array_equal(done.mask[0, 0].numpy() > 0, new)
    border = np.pad(np.atleast_3d(np.asarray(photo)), ((5, 0), (24, 40), (0, 0)), mode="edge")
    assert (np.atleast_3d(found) != border).any(axis=2)[new].mean() > 0.9  # it is filled, not repeated
    assert not mode.endswith("A") or (found[..., -1][new] == 255).all()
    assert done.message == FARTHER and FARTHER in str(done)


def test_the_new_area_joins_the_mask_and_is_not_grown(tiny_single):
    hole = np.zeros((96, 128), bool)
    hole[40:50, 60:70] = True
    done = inpaint_photo(Image.fromarray(PIXELS), Image.fromarray(hole), None, tiny_single, extend=SIDES, dilation=2, **FAST)
    changed = (np.asarray(done.image)[OLD] != PIXELS).any(axis=2)
    assert changed[40:50, 60:70].mean() > 0.9 and changed[38, 65] and not changed[37].any() and changed.sum() < 14 * 14
    assert done.mask[0, 0, :5].all() and done.mask.sum() < 101 * 192 - 96 * 128 + 14 * 14


def test_a_soft_edge_repeats_the_old_rim_and_nothing_dark(tiny_single):
    photo = Image.new("RGB", (128, 96), "white")
    done = inpaint_photo(photo, None, None, tiny_single, extend=(0, 30, 0, 0), soft_edge=3, **FAST)
    sharp = inpaint_photo(photo, None, None, tiny_single, extend=(0, 30, 0, 0), **FAST)
    soft, hard = (np.asarray(x.image)[:, 128].astype(int) for x in (done, sharp))
    assert (soft >= hard).all() and soft.mean() > hard.mean()


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_the_file_says_is_kept_and_tells_the_new_size(tiny_single, tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0100], exif[0x0101] = "Maker", orientation, 128, 96
    exif.get_ifd(0x8769).update({0x829A: (1, 250), 0xA002: 128, 0xA003: 96})
    Image.fromarray(PIXELS).save(tmp_path / f"photo{ending}", exif=exif.tobytes(), dpi=(300, 300), icc_profile=b"profile")
    inpaint_photo(tmp_path / f"photo{ending}", None, tmp_path / f"out{ending}", tiny_single, extend=SIDES, **FAST)
    with Image.open(tmp_path / f"out{ending}") as file:
        size = (96 + 64, 128 + 5) if orientation == 6 else (128 + 64, 96 + 5)
        tags = file.getexif()
        details = tags.get_ifd(0x8769)
        assert file.size == size and (details[0xA002], details[0xA003]) == size
        assert tags.get(0x0100, size[0]) == size[0] and tags.get(0x0101, size[1]) == size[1] and tags.get(0x0112, 1) == 1
        assert tags[0x010F] == "Maker" and details[0x829A] == (1, 250) and file.info["icc_profile"] == b"profile"


def test_a_guide_has_the_proportions_of_the_larger_canvas(tiny_single):
    photo, guide = Image.fromarray(PIXELS), Image.new("RGB", (96, 48), "red")
    done = inpaint_photo(photo, None, None, tiny_single, extend=(0, 64, 0, 0), guide=guide, **FAST)
    assert done.image.size == (192, 96) and done.results[0].steps[0].message == "guide"
    with pytest.raises(ValueError, match="guide is 96 px wide and 48 px high, the picture 128 px wide and 96 px high"):
        inpaint_photo(photo, Image.new("L", (128, 96), 255), None, tiny_single, guide=guide, **FAST)


def test_a_wide_border_of_a_large_photo_is_a_window(tiny_single):
    photo = Image.fromarray(np.tile(PIXELS, (1, 8, 1)))
    done = inpaint_photo(photo, None, None, tiny_single, extend=(0, 32, 0, 0), **FAST)
    ((top, bottom, left, right),) = done.windows
    assert (top, bottom, right) == (0, 96, 8 * 128 + 32) and left > 800
    assert np.array_equal(np.asarray(done.image)[:, : 8 * 128], np.asarray(photo))


WRONG = {
    "negative": ({"extend": (0, -3, 0, 0)}, "extend is -3; expected a whole number of 0 to 65536 pixels at each side"),
    "fraction": ({"extend": (0, 1.5, 0, 0)}, "extend is 1.5; expected a whole number"),
    "three": ({"extend": (0, 1, 2)}, r"extend is \(0, 1, 2\); expected four whole numbers of pixels, \(top, right"),
    "a number": ({"extend": 8}, "extend is 8; expected four whole numbers"),
    "text": ({"extend": "8888"}, "extend is '8888'; expected four whole numbers"),
    "nothing": (
        {"extend": (0, 0, 0, 0)},
        "there is no mask, and .* has no area that is wholly transparent",
    ),
    "neither": ({}, "there is no mask, and the file has no area that is wholly transparent"),
    "mask of the new size": (
        {"extend": SIDES, "mask": Image.new("L", (192, 101), 255)},
        "mask is 192 px wide and 101 px high, the file is 128 px wide and 96 px high; expected the same",
    ),
    "too wide for WebP": (
        {"extend": (0, 17000, 0, 0), "output": "o.webp"},
        "is 17128 px wide and 96 px high, and WEBP holds 16383 px; expected output to end in .jpg or .png",
    ),
    "too large": (
        {"extend": (30000, 30000, 0, 0)},
        "which makes the file 30128 px wide and 30096 px high; expected at most 179 million pixels, or it could not be read",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_any_work(case, tiny_single, tmp_path, monkeypatch):
    for module, name in ((work, "multiscale_inpaint"), (inpaint, "bytes_per_pixel")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("work was done"))
    monkeypatch.chdir(tmp_path)
    given, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        inpaint_photo(Image.fromarray(PIXELS), network=tiny_single, progress=False, **given)
    assert not list(tmp_path.iterdir())


def test_the_command_line(tmp_path, capsys):
    def run(*words):
        try:
            return command.main([*map(str, words), "--network", "mini-lama", "--n-iters", "1", "--device", "cpu"])
        except SystemExit as error:
            return error.code

    photo, mask, out, guide = (tmp_path / name for name in ("photo.png", "mask.png", "out.png", "guide.png"))
    Image.fromarray(PIXELS).save(photo)
    Image.new("L", (128, 96)).save(mask)
    Image.new("RGB", (96, 50), "red").save(guide)
    assert run(photo, "-o", out, "--extend", *SIDES) == 0
    assert np.array_equal(np.asarray(Image.open(out))[OLD], PIXELS) and FARTHER in capsys.readouterr().out
    assert run(photo, "-o", out, mask, "--overwrite", "--extend", *SIDES, "--guide", guide) == 0  # the mask may come late
    assert np.array_equal(np.asarray(Image.open(out))[OLD], PIXELS)
    capsys.readouterr()
    before = out.read_bytes()
    for words, said in {
        (photo,): "photo.png has no area that is wholly transparent",
        (photo, "--extend", 0, 0, 0, 0): "photo.png has no area that is wholly transparent",
        (photo, "--extend", 0, -3, 0, 0): "extend is -3; expected a whole number of 0",
        (photo, "--extend", 1, 2): "argument --extend: expected 4 arguments",
        (photo, mask, "--guide", tmp_path / "no.png"): "no.png'; expected the path of a picture",
        (photo, mask, "--guide", tmp_path): "expected the path of a picture",
        (photo, mask, "--guide", guide): "the picture 128 px wide and 96 px high; expected the same proportions",
        (tmp_path, mask, "--guide", guide): "expected the path of a picture, and PHOTO to be one photo",
    }.items():
        assert run(*words, "-o", tmp_path / "folder" if words[0] == tmp_path else out, "--overwrite") in (1, 2)
        printed = capsys.readouterr()
        assert said in printed.err and "Traceback" not in printed.err
    assert out.read_bytes() == before
    Image.new("RGB", (128, 96)).save(guide)
    before = guide.read_bytes()
    assert run(photo, mask, "-o", guide, "--guide", guide, "--overwrite") == 1
    assert "expected another name, so that it stays" in capsys.readouterr().err and guide.read_bytes() == before
