"""Properties of the pyramid, the masks and the erosion, for any size."""

import kornia
import numpy as np
import pytest
import torch
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_lib import build_pyramid, downscale, downscale_mask, erode, stroke_masks
from refine_lib.pyramid import number_of_levels, whole_hole
from refine_lib.scenes.strokes import STROKES

sides = st.integers(16, 90)
seeds = st.integers(0, 2**16)


def random_mask(height, width, seed, share=0.3):
    generator = torch.Generator().manual_seed(seed)
    coarse = (torch.rand(1, 1, 7, 7, generator=generator) < share).double()
    return torch.nn.functional.interpolate(coarse, (height, width))


@given(sides, sides, st.integers(16, 64))
@settings(deadline=None)
def test_sizes_halve(height, width, smallest_scale):
    pyramid = build_pyramid(*picture(height, width), smallest_scale)
    assert len(pyramid) == number_of_levels(height, width, smallest_scale)
    assert pyramid[-1].size == (height, width)
    for small, large in zip(pyramid[:-1], pyramid[1:], strict=True):
        assert small.size == (large.size[0] // 2, large.size[1] // 2)
        assert small.mask.shape[-2:] == small.size


@given(sides, sides, seeds)
@settings(deadline=None)
def test_a_hole_never_shrinks(height, width, seed):
    mask = random_mask(height, width, seed)
    small = downscale_mask(mask)
    assert set(small.unique().tolist()) <= {0.0, 1.0}
    y, x = torch.nonzero(mask[0, 0], as_tuple=True)
    assert small[0, 0, (y // 2).clamp(max=height // 2 - 1), (x // 2).clamp(max=width // 2 - 1)].all()


@given(sides, sides, seeds, st.integers(0, 20), st.integers(0, 20))
@settings(deadline=None)
def test_a_larger_erosion_never_grows_a_mask(height, width, seed, a, b):
    mask = random_mask(height, width, seed, share=0.7)
    assert (erode(mask, max(a, b)) <= erode(mask, min(a, b))).all()


@pytest.mark.cpu("another library, which is compared with, computes on the CPU")
@pytest.mark.parametrize("diameter", [1, 3, 5, 9, 15, 31])
def test_erosion_is_that_of_another_library_with_the_same_kernel(diameter):
    radius = diameter // 2
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    kernel = torch.from_numpy(np.abs(dx) <= np.round(np.sqrt(radius**2 - dy**2))).double()
    mask = random_mask(64, 51, seed=4, share=0.8)
    assert torch.equal(erode(mask, diameter), kornia.morphology.erosion(mask, kernel))


def test_erosion_by_nothing_is_the_identity():
    mask = random_mask(32, 32, 1)
    assert torch.equal(erode(mask, 0), mask)


def test_an_even_diameter_acts_as_the_odd_one_below_it():
    mask = random_mask(64, 64, 2, share=0.8)
    assert torch.equal(erode(mask, 8), erode(mask, 7))
    assert not torch.equal(erode(mask, 9), erode(mask, 7))


def test_a_hole_is_not_eroded_from_the_border_of_the_picture():
    everything = torch.ones(1, 1, 32, 32)
    assert erode(everything, 15).all()


@given(sides, sides)
@settings(deadline=None)
def test_downscale_is_a_gaussian_and_bilinear_interpolation(height, width):
    image, _ = picture(height, width)
    blurred = kornia.filters.gaussian_blur2d(image, (5, 5), (1.0, 1.0), border_type="reflect")
    wanted = torch.nn.functional.interpolate(blurred, (height // 2, width // 2), mode="bilinear", align_corners=False)
    assert torch.allclose(downscale(image), wanted, atol=1e-12)


def test_downscale_passes_the_gradient_on():
    image = picture()[0].requires_grad_()
    downscale(image).sum().backward()
    assert image.grad.abs().min() > 0


@given(sides, sides, seeds, st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None)
def test_the_loss_looks_at_pixels_that_are_whole_hole(height, width, seed, dtype):
    mask = random_mask(height, width, seed).to(dtype)
    size = (height // 2, width // 2)
    assert torch.equal(whole_hole(torch.ones_like(mask), size), torch.ones(1, 1, *size, dtype=dtype))
    assert (whole_hole(mask, size) <= downscale_mask(mask)).all()
    assert torch.equal(whole_hole(mask, size), whole_hole(mask.double(), size).to(dtype))


def test_the_number_of_levels_grows_by_one_with_each_doubling():
    assert [number_of_levels(side, 2 * side, 512) for side in (100, 512, 724, 725, 1024, 2048)] == [1, 1, 1, 2, 2, 3]


def test_a_pyramid_prints_itself():
    pyramid = build_pyramid(*picture(64, 96), smallest_scale=16)
    assert str(pyramid).splitlines() == [
        "Pyramid of 3 levels, smallest first",
        f"  level 1: 16 x 24 px, {pyramid[0].mask.mean():.1%} hole",
        f"  level 2: 32 x 48 px, {pyramid[1].mask.mean():.1%} hole",
        "  level 3: 64 x 96 px, 25.0% hole",
    ]
    assert len(pyramid[:2]) == 2


@pytest.mark.parametrize("kind", STROKES)
def test_stroke_masks_are_the_same_hole_at_every_size(kind):
    small, large = (stroke_masks(size, batch=8, seed=3, kind=kind) for size in (64, 256))
    assert torch.equal(stroke_masks(64, batch=8, seed=3, kind=kind), small)
    assert ((small == 0) | (small == 1)).all()
    shares = large.mean((1, 2, 3))
    low, high = STROKES[kind].share
    assert (shares > 0.8 * low).all() and (shares < 1.2 * high).all()  # the limits hold at the size that they are judged at
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().mean() < 0.06
    assert stroke_masks((40, 60), kind=kind).shape == (1, 1, 40, 60)


def test_thick_strokes_are_wider_than_thin_ones():
    def deepest(kind):
        """How far a hole can be eroded, in pixels of 128."""
        mask = stroke_masks(128, batch=8, seed=5, kind=kind)
        return sum(erode(mask, diameter).amax((1, 2, 3)).mean().item() for diameter in range(3, 45, 6))

    assert deepest("thin") < deepest("medium") < deepest("thick")


def test_a_kind_of_stroke_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="kind is 'huge'; expected one of 'thin', 'medium', 'thick'"):
        stroke_masks(32, kind="huge")


@given(sides, sides, seeds)
@settings(deadline=None, max_examples=20)
def test_a_kernel_larger_than_the_picture_is_as_good_as_any_larger_one(height, width, seed):
    mask = random_mask(height, width, seed, share=0.9)
    mask[..., 0, 0] = 0
    wanted = erode(mask, 2 * (height + width) + 1)
    assert not wanted.any()
    for diameter in (10**7, 2**62, 2**64 + 1, 10**400, np.int64(2**63 - 1)):
        assert torch.equal(erode(mask, diameter), wanted)
        assert erode(torch.ones_like(mask), diameter).all()


@pytest.mark.cpu("another library, which is compared with, computes on the CPU")
def test_a_small_kernel_in_a_narrow_picture_is_that_of_another_library():
    for height, width, diameter in ((40, 3, 15), (3, 40, 15), (5, 30, 41), (30, 5, 41)):
        radius = diameter // 2
        dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        kernel = torch.from_numpy(np.abs(dx) <= np.round(np.sqrt(radius**2 - dy**2))).double()
        mask = random_mask(height, width, seed=4, share=0.95)
        assert torch.equal(erode(mask, diameter), kornia.morphology.erosion(mask, kernel))


def test_a_diameter_of_few_bits_is_the_number_that_it_is():
    mask = random_mask(32, 32, 1, share=0.8)
    assert torch.equal(erode(mask, np.uint8(0)), mask)
    assert torch.equal(erode(mask, np.uint8(255)), erode(mask, 255))
