"""Drawn scenes, masks, photos and measures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image

from refine_lib import Scenes, random_scenes
from refine_lib.metrics import hole_l1
from refine_lib.photos import BUILT_IN, load_photo, to_pixels
from refine_lib.scenes import PATTERNS


def test_a_seed_gives_the_same_scenes_at_every_size():
    large, small = random_scenes(256, batch=16, seed=5), random_scenes(64, batch=16, seed=5)
    assert large.shape == (16, 3, 256, 256) and large.dtype == torch.float32
    assert large.min() >= 0 and large.max() <= 1
    # Edges are filtered as they are drawn, so a scene drawn small is the scene drawn large and shrunk.
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().mean() < 0.005
    assert torch.equal(random_scenes(64, batch=16, seed=5), small)
    assert (random_scenes(64, batch=16, seed=6) - small).abs().mean() > 0.1


@pytest.mark.parametrize("pattern", range(len(PATTERNS)))
def test_every_pattern_shows(pattern):
    weights = [0.0] * len(PATTERNS)
    weights[pattern] = 1.0
    scenes = Scenes.random(batch=8, seed=1, weights=weights)
    assert (scenes.pattern == pattern).all()
    assert (scenes.draw(64).std(dim=(2, 3)).mean(1) > 0.02).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_is_the_same_picture_at_every_size(pattern):
    weights = [float(name == pattern) for name in PATTERNS]
    large, small = (random_scenes(size, batch=6, seed=2, weights=weights) for size in (256, 64))
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().mean() < 0.01


def test_weights_that_do_not_fit_the_patterns_are_named():
    with pytest.raises(ValueError, match="weights are .1, 2.; expected 6 numbers, for stripes, tiles"):
        Scenes.random(weights=(1, 2))
    with pytest.raises(ValueError, match="batch is 0; expected 1 or more scenes"):
        random_scenes(32, batch=0)


def test_a_close_up_is_a_part_of_its_scene_drawn_larger():
    whole, part = Scenes.random(batch=4, seed=8), Scenes.random(batch=4, seed=8, close_ups=1.0)
    x, y, shown = part.view.T
    assert (shown < 0.7).all() and (shown > 0.2).all() and ((x.abs() + shown) <= 1).all() and ((y.abs() + shown) <= 1).all()
    half = replace(whole, view=torch.tensor([[0.5, -0.5, 0.5]] * 4))  # the upper right quarter
    assert (half.draw(64) - whole.draw(128)[..., :64, 64:]).abs().mean() < 2e-3
    assert torch.equal(Scenes.random(batch=4, seed=8).view, torch.tensor([[0.0, 0, 1]] * 4))


def test_noise_and_soft_edges_are_found_on_some_planes():
    scenes = Scenes.random(batch=200, seed=3)
    patterned = scenes.pattern != PATTERNS.index("clouds")
    for some in (scenes.grain > 0, scenes.softness > 0):
        assert 0.05 < some[patterned].float().mean() < 0.3
    assert (scenes.grain[~patterned] > 0).all()


@pytest.mark.parametrize("name", BUILT_IN)
def test_photos_come_as_tensors_and_go_back_bit_for_bit(name, tmp_path):
    photo = load_photo(name)
    assert photo.ndim == 4 and photo.shape[1] == 3 and photo.dtype == torch.float32
    assert 0.5 < photo.max() <= 1 and photo.min() >= 0
    Image.fromarray(to_pixels(photo)).save(tmp_path / "photo.png")
    assert torch.equal(load_photo(tmp_path / "photo.png"), photo)
    assert np.array_equal(to_pixels(picture()[1]), picture()[1][0, 0].numpy().astype(np.uint8) * 255)


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


def test_the_error_inside_the_hole():
    truth, mask = picture(batch=2)
    assert hole_l1(truth, truth, mask) == 0
    assert hole_l1(torch.where(mask > 0, truth + 0.25, truth + 9), truth, mask) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="no hole"):
        hole_l1(truth, truth, torch.zeros_like(mask))
