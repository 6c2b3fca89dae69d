"""Drawn scenes and the error inside a hole."""

from dataclasses import replace

import pytest
import torch
from conftest import picture

from refine_lib import Scenes, random_scenes
from refine_lib.metrics import hole_l1
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
    with pytest.raises(ValueError, match="batch is 0; expected a whole number of 1 to 65536 scenes"):
        random_scenes(32, batch=0)


def test_a_close_up_is_a_part_of_its_scene_drawn_larger():
    whole, part = Scenes.random(batch=4, seed=8), Scenes.random(batch=4, seed=8, close_ups=1.0)
    x, y, shown = part.view.T
    assert (shown < 0.7).all() and (shown > 0.2).all() and ((x.abs() + shown) <= 1).all() and ((y.abs() + shown) <= 1).all()
    half = replace(whole, view=torch.tensor([[0.5, -0.5, 0.5]] * 4, device="cpu"))  # the upper right quarter
    assert (half.draw(64) - whole.draw(128)[..., :64, 64:]).abs().mean() < 2e-3
    assert Scenes.random(batch=4, seed=8).view.tolist() == [[0, 0, 1]] * 4


def test_noise_and_soft_edges_are_found_on_some_planes():
    scenes = Scenes.random(batch=200, seed=3)
    patterned = scenes.pattern != PATTERNS.index("clouds")
    for some in (scenes.grain > 0, scenes.softness > 0):
        assert 0.05 < some[patterned].float().mean() < 0.3
    assert (scenes.grain[~patterned] > 0).all()


def test_the_error_inside_the_hole():
    truth, mask = picture(batch=2)
    assert hole_l1(truth, truth, mask) == 0
    assert hole_l1(torch.where(mask > 0, truth + 0.25, truth + 9), truth, mask) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="no hole"):
        hole_l1(truth, truth, torch.zeros_like(mask))
