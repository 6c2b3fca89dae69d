"""The generator that no network was trained on, and the measure of what refinement does."""

import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import picture
from PIL import Image

from refine_lib import LamaGenerator, stroke_masks
from refine_lib.photos.pixels import save_photo
from refine_lib.workshop import effect as command
from refine_lib.workshop.effect import (
    COLUMNS,
    as_model,
    fill_after_telea,
    measure,
    pictures_of,
    row,
    strip,
    table,
)
from refine_lib.workshop.other_scenes import GENERATORS, KINDS, photos, random_scene
from refine_lib.workshop.texture import grid_strength, sharpness


@pytest.fixture(scope="module")
def two():
    """Two scenes of 64 px with their holes."""
    return GENERATORS["busy"](64, 2, seed=1), stroke_masks(64, 2, seed=1)


@pytest.fixture(scope="module")
def measured(tiny_single, two):
    return measure(tiny_single, *two, network="tiny", title="busy", smallest_scale=32, n_iters=2, erosion=3)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_gives_the_same_scenes_at_every_size(name):
    large, small = GENERATORS[name](256, 4, seed=5), GENERATORS[name](64, 4, seed=5)
    assert large.shape == (4, 3, 256, 256) and large.dtype == torch.float32
    assert large.min() >= 0 and large.max() <= 1
    assert (F.avg_pool2d(large, 4) - small).abs().mean() < 0.005
    assert torch.equal(GENERATORS[name](64, 2, seed=5), small[:2])  # how many are drawn does not matter
    assert (GENERATORS[name](64, 4, seed=6) - small).abs().mean() > 0.1


def test_scenes_are_of_the_kind_that_they_should_be():
    simple, busy = ([random_scene(name, 3, i) for i in range(40)] for name in KINDS)
    assert [len(scene.planes) for scene in simple] == [1, 2] * 20 and {len(scene.planes) for scene in busy} == {3}
    for name, scenes in {"simple": simple, "busy": busy}.items():
        planes = [plane for scene in scenes for plane in scene.planes]
        fewest, most = KINDS[name].periods
        assert {plane.pattern for plane in planes} == set(KINDS[name].patterns)
        assert all(fewest <= n <= most for plane in planes for n in plane.periods)
    assert all(abs(plane.colors[0] - plane.colors[1]).mean() >= 0.3 for scene in simple for plane in scene.planes)


def test_photos_are_middle_squares(tmp_path):
    photo = torch.zeros(1, 3, 40, 80)
    photo[..., 20:60] = torch.linspace(0, 1, 40)  # outside the middle square it is black
    save_photo(photo, tmp_path / "b.png")
    save_photo(photo.flip(-1), tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture")
    taken = photos(tmp_path, size=20)
    assert taken.shape == (2, 3, 20, 20) and taken.dtype == torch.float32
    assert (taken[1] - F.avg_pool2d(photo[..., 20:60], 2)[0]).abs().mean() < 0.02  # by the order of their names
    assert torch.equal(taken[0], taken[1].flip(-1))
    with pytest.raises(ValueError, match="a.png has a short side of 40 px; expected at least 64 px"):
        photos(tmp_path, size=64)
    with pytest.raises(NotADirectoryError, match="expected a folder of photos"):
        photos(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        photos(tmp_path / "empty")


def test_the_truth_is_as_sharp_as_itself():
    truth, mask = picture(64, 64, batch=2)
    assert sharpness(truth, truth, mask) == 1
    assert sharpness(torch.where(mask > 0, truth / 2, 0.7), truth, mask) == pytest.approx(0.25)  # outside nothing counts


def test_a_drawn_grid_is_found_and_noise_has_none():
    mask = torch.zeros(4, 1, 128, 128)
    mask[..., 20:110, 13:105] = 1
    noise = torch.rand(4, 3, 128, 128)
    assert grid_strength(noise, mask) == pytest.approx(1, abs=0.03)
    drawn = (torch.arange(128) // 8 % 2).float().expand(4, 3, 128, 128)  # nothing but its steps, every 8 px
    assert grid_strength(drawn, mask) == pytest.approx(8)
    assert 1.3 < grid_strength(noise + drawn, mask) < 8
    assert grid_strength(torch.where(mask > 0, noise, drawn), mask) == pytest.approx(grid_strength(noise, mask))


def test_telea_fills_the_hole_and_does_not_look_into_it():
    truth, mask = picture(64, 64, batch=2, dtype=torch.float32)
    filled = fill_after_telea(torch.where(mask > 0, 1.0, truth), mask)
    assert torch.equal(filled, fill_after_telea(torch.where(mask > 0, 0.0, truth), mask))
    assert torch.allclose(filled * (1 - mask), truth * (1 - mask), atol=0.5 / 255 + 1e-6)
    flat = torch.full_like(truth, 0.4)
    assert torch.allclose(fill_after_telea(flat * (1 - mask), mask), flat, atol=0.02)  # OpenCV is off by a few of 255


def test_a_measured_network_is_a_row_of_the_table(measured, two):
    numbers = (measured.plain, measured.enlarged, measured.refined, measured.small, measured.telea)
    assert all(0 < number < 1 for number in numbers) and measured.n == 2
    value, low, high = measured.below_plain
    assert value == pytest.approx(1 - measured.refined / measured.plain) and low <= value <= high
    better = [measured.pairs["refined"][:, 0] < measured.pairs[way][:, 0] for way in ("plain", "enlarged")]
    assert measured.better_than_both[0] == (better[0] & better[1]).double().mean()
    assert measured.beside_telea[0] == pytest.approx(measured.small / measured.telea)
    with pytest.raises(AttributeError):
        _ = measured.nothing
    assert measured.grid_of_truth == grid_strength(*two)
    assert torch.equal(measured.kept["truth"], two[0]) and torch.equal(measured.mask, two[1])

    header, rule, one, other, empty, of_truth = table([measured, measured]).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == list(COLUMNS)
    assert one == other == row(measured) and one.startswith("| tiny | 2 busy | ")
    assert one.count("|") == header.count("|") == rule.count("|") and not empty
    assert row(measured, intervals=True).count("[") == 4 and one.count("[") == 0
    assert of_truth == f"grid of the truth: {measured.grid_of_truth:.2f} in 2 busy"


def test_errors_are_pooled_over_all_pictures(tiny_single, two, measured):
    settings = dict(smallest_scale=32, n_iters=2, erosion=3)
    alone = [measure(tiny_single, p, m, **settings) for p, m in zip(two[0].split(1), two[1].split(1), strict=True)]
    area = two[1].sum(dim=(1, 2, 3))
    for way in ("plain", "enlarged", "refined"):
        pooled = sum(getattr(one, way) * a.item() for one, a in zip(alone, area, strict=True)) / area.sum().item()
        assert getattr(measured, way) == pytest.approx(pooled, rel=1e-4), way


def test_a_network_in_training_is_measured_and_stays_in_training(two):
    network = LamaGenerator(ngf=2, n_blocks=1).train()
    model = as_model(network)
    measure(model, *two, smallest_scale=32, n_iters=1, erosion=3)
    assert network.training and all(weight.requires_grad for weight in network.parameters())
    assert not any(layer.training for layer in model.layers.modules())


def test_the_strip_has_a_row_for_each_way_and_a_column_for_each_picture(measured):
    figure = strip(measured, "made so")
    assert len(figure.axes) == 5 * 2
    assert [ax.get_title(loc="left") for ax in figure.axes[::2]] == ["input", "enlarged", "plain", "refined", "truth"]


def test_pictures_are_found_by_their_names(tmp_path):
    for name in (*GENERATORS, "planes"):
        assert pictures_of(name, 64, 3, seed=1).shape == (3, 3, 64, 64)
    for i in range(3):
        Image.new("RGB", (70, 64), (i, i, i)).save(tmp_path / f"{i}.png")
    assert pictures_of(str(tmp_path), 64, 2, seed=1).shape == (2, 3, 64, 64)


def test_the_command_prints_the_table_and_writes_the_strip(tmp_path, monkeypatch, capsys):
    words = "mini-conv --on simple --pictures 1 --size 64 --smallest-scale 32 --n-iters 1 --erosion 3 --device cpu"
    monkeypatch.setattr(sys, "argv", ["effect", *words.split(), "--figure", str(tmp_path / "strip.png")])
    command.main()
    printed = capsys.readouterr().out
    assert "| mini-conv | 1 simple |" in printed and "smallest_scale 32" in printed
    with Image.open(tmp_path / "strip.png") as drawn:
        assert drawn.width > 100


@pytest.mark.parametrize(
    "words, expected",
    [
        ("nothing", "argument NETWORK: name_or_path is 'nothing'"),
        ("mini-conv --on nowhere", "argument --on: 'nowhere' is neither a folder of photos nor one of simple, busy, planes"),
        ("mini-conv --pictures 0", "argument --pictures: 0; expected 1 or more"),
        ("mini-conv --seed -1", "argument --seed: -1; expected 0 or more"),
        ("mini-conv --size 100", "argument --size: 100; expected at least twice --smallest-scale, 64"),
        ("mini-conv --lr 0", "lr is 0"),
        ("mini-conv --figure nowhere/strip.png", "argument --figure: there is no folder 'nowhere'"),
        ("mini-conv --figure strip.doc", "argument --figure: strip.doc does not end as a picture does"),
    ],
)
def test_a_wrong_argument_is_named(words, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["effect", *words.split()])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2 and expected in capsys.readouterr().err
