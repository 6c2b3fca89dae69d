"""The wider world of patterns: scenes are numbers, so they are the same at every size, and no kind is left out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from refine_lib.workshop.patterns import KINDS, N_PLANES, PatternScenes, random_patterns


def alone(kind, batch=6, seed=0):
    """Scenes that show one kind of pattern straight on, sharp, of two colors, black and white."""
    scenes = PatternScenes.random(batch, seed)
    black_and_white = torch.tensor([0.0, 1.0, 1.0])[:, None].expand(batch, N_PLANES, 3, 3)
    plain = {name: 0 * getattr(scenes, name) for name in ("tilt", "light", "softness", "grain", "tone", "shear", "frame")}
    there = torch.tensor([1.0, 0, 0]).expand(batch, -1)
    number = torch.full_like(scenes.kind, list(KINDS).index(kind))
    return replace(scenes, kind=number, colors=black_and_white, there=there, **plain)


def test_pictures_have_colors_and_come_again_with_their_seed():
    pictures = random_patterns(64, 8, seed=3)
    assert pictures.shape == (8, 3, 64, 64) and pictures.dtype == torch.float32
    assert 0 <= pictures.min() and pictures.max() <= 1
    assert torch.equal(pictures, random_patterns(64, 8, seed=3))
    assert not torch.equal(pictures, random_patterns(64, 8, seed=4))
    assert pictures.std(dim=(2, 3)).mean() > 0.05


def test_a_scene_drawn_small_is_the_scene_drawn_large_and_shrunk():
    small, large = random_patterns(64, 24, seed=1), random_patterns(256, 24, seed=1)
    apart = (F.avg_pool2d(large, 4) - small).abs().mean(dim=(1, 2, 3))
    assert apart.median() < 0.005 and apart.max() < 0.03


def test_scenes_of_a_slice_are_those_of_the_batch():
    scenes = PatternScenes.random(5, seed=2)
    assert torch.allclose(scenes[3:].draw(48), scenes.draw(48)[3:], atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("clouds", "plain")])
def test_each_kind_draws_a_figure_on_a_ground(kind):
    pictures = alone(kind).draw(96)[:, 0]
    figure = pictures.mean()
    assert 0.05 < figure < 0.98
    if kind != "plaids":  # whose crossings are of a third color
        assert ((pictures - 0.5).abs() > 0.45).float().mean() > 0.75  # sharp: few pixels lie on an edge


def test_hexagons_have_three_directions():
    scenes = alone("hexagons", batch=1)
    upright = replace(scenes, angle=0 * scenes.angle, aspect=0 * scenes.aspect + 1, periods=0 * scenes.periods + 3)
    picture = upright.draw(192)[0, 0]
    spectrum = torch.fft.fft2(picture - picture.mean()).abs()
    strongest = {divmod(int(i), 192) for i in spectrum.flatten().topk(6).indices}
    half_turn = {(-y % 192, -x % 192) for y, x in strongest}
    assert strongest == half_turn and len(strongest) == 6  # three waves and their mirror images


def test_a_plane_in_front_covers_the_one_behind():
    scenes = PatternScenes.random(1, seed=0)
    numbers = torch.full_like(scenes.kind, list(KINDS).index("plain"))
    flat = {name: 0 * getattr(scenes, name) for name in ("light", "grain", "tilt", "frame")}
    colors = torch.tensor([0.1, 0.9, 0.5])[None, :, None, None].expand(1, 3, 3, 3)
    disc = dict(outline=torch.ones_like(scenes.outline), place=torch.tensor([[[0.0, 0, 0, 0.5, 0.5]] * 3]))
    there = torch.tensor([[1.0, 1, 0]])
    picture = replace(scenes, kind=numbers, colors=colors, there=there, **flat, **disc).draw(64)[0, 0]
    assert picture[32, 32] == pytest.approx(0.9) and picture[2, 2] == pytest.approx(0.1)
    assert (picture > 0.5).float().mean() == pytest.approx(torch.pi * 0.25 / 4, abs=0.01)
