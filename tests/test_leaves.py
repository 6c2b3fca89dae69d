"""The natural world must be drawn the same from the same seed, and look like photos by the measures of natural images."""

import numpy as np
import pytest
import torch

from refine_lib.workshop.leaves import random_leaves


@pytest.fixture(scope="module")
def pictures():
    return random_leaves(256, batch=12, seed=4)


def test_pictures_are_float32_in_range(pictures):
    assert pictures.shape == (12, 3, 256, 256)
    assert pictures.dtype == torch.float32
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert (pictures.std((1, 2, 3)) > 0.02).all()


@pytest.mark.parametrize("size", [16, 64, 100])
def test_any_size_can_be_drawn(size):
    assert random_leaves(size, seed=1).shape == (1, 3, size, size)


def test_a_seed_gives_the_same_bits(pictures):
    assert torch.equal(random_leaves(256, batch=2, seed=4), pictures[:2])  # and a picture heeds no later one


def test_the_number_of_threads_changes_no_bit():
    before, picture = torch.get_num_threads(), random_leaves(128, seed=4)
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        again = random_leaves(128, seed=4)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(again, picture)


def test_drawing_leaves_the_global_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    random_leaves(32)
    assert torch.equal(torch.rand(3), expected)


def test_seeds_and_places_in_a_batch_differ(pictures):
    others = random_leaves(256, batch=2, seed=5)
    assert (others[0] - pictures[0]).abs().mean() > 0.05
    assert (pictures[0] - pictures[1]).abs().mean() > 0.05


def test_the_spectrum_falls_like_that_of_photos(pictures):
    """Power goes about as 1/f^2 to 1/f^3, seen through a window that fades to the sides."""
    gray = pictures.mean(1).numpy().astype(float)
    window = np.hanning(256)
    power = np.abs(np.fft.fft2((gray - gray.mean((1, 2), keepdims=True)) * window[:, None] * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256) * 256, np.fft.fftfreq(256) * 256))
    edges = np.geomspace(3, 90, 10)
    rings = [(frequency >= low) & (frequency < high) for low, high in zip(edges, edges[1:], strict=False)]
    means = np.array([[one[ring].mean() for ring in rings] for one in power])
    slopes = np.polyfit(np.log(edges[:-1]), np.log(means).T, 1)[0]
    assert -3.0 < slopes.mean() < -2.0


def test_colors_go_together(pictures):
    """In photos brightness varies far more than hue."""
    matrices = np.array([np.corrcoef(picture.reshape(3, -1)) for picture in pictures.numpy()])
    between = matrices[:, [0, 0, 1], [1, 2, 2]]
    assert 0.9 < between.mean() < 0.99


def test_differences_have_heavy_tails(pictures):
    """Most neighbors are alike, and a few differ much: edges. Of Gaussian noise the kurtosis is 3."""
    differences = pictures.mean(1).diff(dim=-1).flatten(1).double()
    differences = differences - differences.mean(1, keepdim=True)
    kurtosis = differences.pow(4).mean(1) / differences.pow(2).mean(1) ** 2
    assert kurtosis.median() > 6


def test_things_of_many_sizes_are_seen(pictures):
    """The way from edge to edge along a row is a few pixels here, and a quarter of the picture there."""
    gray = pictures.mean(1)
    lengths = []
    for row in gray[:, ::16].flatten(0, 1):
        places = (row.diff().abs() > 0.08).nonzero()[:, 0]
        lengths.append(places.diff())
    lengths = torch.cat(lengths)
    lengths = lengths[lengths > 1]
    shares = [((lengths >= low) & (lengths < 2 * low)).float().mean() for low in (2, 4, 8, 16, 32, 64)]
    assert min(shares) > 0.01


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="size is 8"):
        random_leaves(8)
    with pytest.raises(ValueError, match="batch is 0"):
        random_leaves(64, batch=0)
