"""A guide: a small picture filled by whatever else, which takes the place of the smallest levels."""

import numpy as np
import pytest
import torch
from PIL import Image

from refine_lib import NothingToRefine, load_network, metrics, multiscale_inpaint, random_scenes, stroke_masks
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.photos.pixels import to_pixels
from refine_lib.pyramid import build_pyramid, resize

SCALE = {"smallest_scale": 32, "n_iters": 3, "erosion": 3, "progress": False}


@pytest.fixture(scope="module")
def scene():
    """Two pictures with a hole each, and their pyramid: 32, 64 and 128 px."""
    image, mask = drawn(128, 2, seed=1)
    return image, mask, build_pyramid(image, mask, 32)


@pytest.fixture(scope="module")
def mini():
    return load_network("mini-lama")


def drawn(size, n, seed):
    """Pictures and holes on the device that tests compute on."""
    here = torch.empty(0).device
    return random_scenes(size, n, seed, device=here), stroke_masks(size, n, seed, device=here)


def error(result, image, mask):
    return metrics.fraction(metrics.l1(result, image, mask)).item()


def test_a_guide_that_is_the_plain_prediction_gives_the_usual_result(scene, tiny_single):
    image, mask, _ = scene
    usual = multiscale_inpaint(image, mask, tiny_single, **SCALE)
    for level in range(3):
        with pytest.warns(NothingToRefine) if level == 2 else np.errstate():
            guided = multiscale_inpaint(image, mask, tiny_single, **SCALE, guide=usual.levels[level].inpainted)
        assert torch.equal(guided.image, usual.image) and guided.losses == usual.losses[level:]
        assert guided.n_levels == 3 - level and [level.size for level in guided.levels] == [
            level.size for level in usual.levels[level:]
        ]
        assert guided.steps[0].message == "guide"


def test_the_small_truth_as_guide_leads_far_below(mini):
    image, mask = drawn(128, 4, seed=5)
    small = build_pyramid(image, mask, 64)[0].image
    settings = {"smallest_scale": 64, "lr": 0.005, "erosion": 3, "progress": False}
    usual, guided = (multiscale_inpaint(image, mask, mini, **settings, guide=guide) for guide in (None, small))
    assert error(guided.image, image, mask) < 0.6 * error(usual.image, image, mask)
    assert torch.equal(guided.image[(mask == 0).expand_as(image)], image[(mask == 0).expand_as(image)])


@pytest.mark.parametrize("size, level", [((1, 1), 32), ((20, 20), 32), ((40, 40), 32), ((64, 63), 64), ((100, 100), 64)])
def test_a_guide_of_any_size_is_brought_to_a_level_and_no_smaller_one_is_computed(scene, tiny, size, level):
    image, mask, _ = (t.double() if isinstance(t, torch.Tensor) else t for t in scene)
    gray = torch.full((2, 3, *size), 0.25, dtype=torch.float64)
    done = multiscale_inpaint(image, mask, tiny, **SCALE, guide=gray)
    assert done.levels[0].size == (level, level) and done.image.dtype == torch.float64 and done.image.shape == image.shape
    inside = torch.nn.functional.max_pool2d(1 - done.levels[0].mask, 9, 1, 4) == 0  # away from what is known
    assert (done.levels[0].inpainted - 0.25).abs()[inside.expand(-1, 3, -1, -1)].max() < 0.02 if inside.any() else True
    assert torch.equal(torch.where(mask > 0, image, done.image), image)


def test_a_smooth_guide_is_resampled_without_aliasing_or_shift(scene, tiny_single):
    image, mask, _ = scene
    place = torch.linspace(0, 1, 256)[1::2]
    slope = (0.2 + 0.6 * place).expand(2, 3, 128, 128)
    everywhere = torch.ones_like(mask)
    settings = SCALE | {"n_iters": 0, "smallest_scale": 64}
    for side in (60, 90, 127):
        guide = resize(slope, (side, side))
        guide = torch.where(torch.arange(side) % 2 > 0, guide + 0.1, guide - 0.1) if side > 64 else guide  # of one pixel
        first = multiscale_inpaint(slope, everywhere, tiny_single, **settings, guide=guide.clamp(0, 1)).levels[0].inpainted
        assert (first - resize(slope, (64, 64))).abs()[..., 4:-4].max() < (0.012 if side < 64 else 0.1)
        assert (first - resize(slope, (64, 64))).mean().abs() < 0.002


@pytest.mark.parametrize("size", [(20, 20), (32, 32), (50, 50), (64, 64), (128, 128)])
@pytest.mark.filterwarnings("ignore:Nothing was refined")
def test_what_a_guide_has_outside_the_hole_does_not_matter(scene, tiny_single, size):
    image, _, _ = scene
    mask = torch.zeros(2, 1, 128, 128)
    mask[..., 32:96, 32:96] = 1
    guide = resize(image, size).clamp(0, 1)
    hole = torch.nn.functional.adaptive_max_pool2d(mask, size)
    near = torch.nn.functional.max_pool2d(hole, 5, 1, 2)  # what a small level takes for hole is a little larger
    others = torch.where(near > 0, guide, torch.rand(guide.shape))
    a, b = (multiscale_inpaint(image, mask, tiny_single, **SCALE, guide=g) for g in (guide, others))
    assert torch.equal(a.image, b.image)


WRONG = {
    "type": (lambda g: 3, TypeError, "guide is a int; expected a torch.Tensor"),
    "channels": (lambda g: g[:, :1], ValueError, "guide has 1 channels"),
    "nan": (lambda g: g * torch.nan, ValueError, "guide has values that are not finite"),
    "8 bits": (lambda g: g * 255, ValueError, "guide has values between .*: guide / 255"),
    "batch": (lambda g: g[:1], ValueError, "guide has a batch of 1 and image one of 2; expected the same"),
    "dtype": (lambda g: g.double(), TypeError, "guide is float64 and image is float32"),
    "larger": (lambda g: resize(g, (256, 256)), ValueError, "guide is 256 px wide .* picture 128 .* smaller, or as large"),
    "proportions": (
        lambda g: g[..., :24],
        ValueError,
        "guide is 24 px wide and 32 px high, the picture 128 px wide and 128 px",
    ),
    "empty": (lambda g: g[..., :0], ValueError, "guide has shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_guide_that_does_not_fit_is_said_before_any_work(scene, tiny_single, case):
    image, mask, pyramid = scene
    change, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        multiscale_inpaint(image, mask, tiny_single, **SCALE, guide=change(pyramid[0].image))


@pytest.mark.parametrize("size", [(750, 1000), (749, 999), (512, 680), (512, 683), (3, 4), (1, 1), (63, 85)])
def test_a_guides_sides_may_be_rounded(tiny_single, size):
    image, mask = torch.rand(1, 3, 750, 1000), torch.zeros(1, 1, 750, 1000)
    done = multiscale_inpaint(image, mask, tiny_single, progress=False, guide=torch.rand(1, 3, *size), smallest_scale=64)
    assert torch.equal(done.image, image)


def photo_of(picture):
    return Image.fromarray(to_pixels(picture))


@pytest.mark.parametrize("windows", ["never", "always"])
def test_a_photos_guide_is_a_picture_and_each_window_takes_its_part(mini, tmp_path, windows):
    image = random_scenes(384, seed=3)[..., :256, :]
    hole = np.zeros((256, 384), bool)
    hole[20:60, 30:70] = hole[180:230, 300:360] = True
    masked = Image.fromarray(hole)
    photo_of(resize(image, (128, 192))).save(tmp_path / "guide.png")
    options = {"smallest_scale": 64, "optimizer": "polyak", "n_iters": 8, "erosion": 3, "windows": windows}
    usual = inpaint_photo(photo_of(image), masked, None, mini, progress=False, **options)
    guided = inpaint_photo(photo_of(image), masked, None, mini, progress=False, **options, guide=tmp_path / "guide.png")
    truth = to_pixels(image).astype(float)
    errors = [np.abs(np.asarray(done.image) - truth)[hole].mean() for done in (usual, guided)]
    assert errors[1] < 0.6 * errors[0]
    assert not np.abs(np.asarray(guided.image) - truth)[~hole].any()
    for result, (top, bottom, left, right) in zip(guided.results, guided.windows, strict=True):
        first = result.levels[0]
        expected = resize(image[..., top:bottom, left:right].cpu(), first.size)
        inside = first.mask.cpu().expand_as(expected) > 0
        assert (first.inpainted.cpu() - expected).abs()[inside].mean() < 0.05  # it lies where it belongs
        assert first.size[0] < bottom - top and result.steps[0].message == "guide"


def test_a_guide_as_large_as_the_photo_fills_the_hole_as_it_is(tiny_single):
    photo, hole = Image.new("RGB", (200, 160), "teal"), np.zeros((160, 200), bool)
    hole[60:70, 80:90] = True
    for windows in ("always", "never"):
        with pytest.warns(NothingToRefine, match="no level is larger than the guide"):
            done = inpaint_photo(
                photo, Image.fromarray(hole), None, tiny_single, windows=windows, guide=Image.new("RGB", (200, 160), "red"),
                smallest_scale=32, n_iters=1, progress=False,
            )  # fmt: skip
        assert np.array_equal((np.asarray(done.image) == (255, 0, 0)).all(axis=2), hole)


@pytest.mark.parametrize(
    "guide, words",
    [
        ("nowhere.png", "guide is 'nowhere.png'; expected the path of a picture, the photo with its hole filled"),
        (
            Image.new("RGB", (100, 100)),
            "guide is 100 px wide and 100 px high, the picture 200 px wide and 160 px high; expected",
        ),
        (Image.new("RGB", (400, 320)), "expected a guide that is smaller, or as large"),
        (Image.new("F", (100, 80)), "has pixels of mode F; expected 8 bits a channel"),
        (3, "guide is a int; expected the path of a picture"),
    ],
)
def test_a_photos_guide_that_does_not_fit_is_said_before_any_work(guide, words, tiny_single, tmp_path):
    mask = Image.new("L", (200, 160), 255)
    with pytest.raises((OSError, TypeError, ValueError), match=words):
        inpaint_photo(Image.new("RGB", (200, 160)), mask, tmp_path / "o.png", tiny_single, guide=guide, progress=False)
    assert not list(tmp_path.iterdir())
