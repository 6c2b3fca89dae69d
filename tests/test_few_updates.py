"""Small networks of other architectures, and the table that says how few updates they need."""

import math
import sys

import pytest
import torch
from conftest import picture

from refine_lib import split_network
from refine_lib.metrics import fraction, l1
from refine_lib.networks.registry import save_generator
from refine_lib.refine import multiscale_inpaint
from refine_lib.workshop import few_updates, small_networks
from refine_lib.workshop.few_updates import ADAM, BEST, COLUMNS, FIVE, TARGETS, THREE, best_rate, compare, squares, targets
from refine_lib.workshop.model_card import scenes
from refine_lib.workshop.small_networks import NETWORKS, UNet, model_of, predicted, train


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_trained_on_what_refinement_will_show_it(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    image, mask = picture(64, 64, batch=2, dtype=torch.float32)
    with torch.no_grad():
        wanted = predicted(network, image, mask)
        model = split_network(network)
        assert torch.allclose(model(image, mask), wanted, atol=1e-5)
        assert torch.allclose(model.rear(model.front(image, mask)), wanted, atol=1e-5)
    other = torch.where(mask > 0, 1 - image, image)
    assert torch.equal(model(other, mask), model(image, mask))  # the hole's content is hidden


def test_the_skips_of_the_u_net_are_part_of_z():
    z = split_network(UNet(4, 1)).front(*picture(64, 64, dtype=torch.float32))
    assert sorted(tuple(t.shape[1:]) for t in z) == [(4, 64, 64), (8, 32, 32), (16, 16, 16), (32, 8, 8)]


def test_a_few_steps_of_training_make_the_error_fall():
    torch.manual_seed(0)
    network = UNet(4, 1).eval()
    image, mask = next(scenes(8, 64, "thick", 5, "cpu", batch=8))
    before = l1(predicted(network, image, mask), image, mask)
    trained = train(network, steps=50)
    after = l1(predicted(trained, image, mask), image, mask)
    assert fraction(after) < 0.97 * fraction(before) and not trained.training


def test_the_table_has_a_line_for_each_level_and_a_cell_for_each_column():
    torch.manual_seed(0)
    model, settings = split_network(UNet(4, 1)), dict(smallest_scale=24, erosion=3)
    first, last = compare("a network", "thick", 0.01, scenes(2, 96, "thick", 5, "cpu"), model, loss="code", **settings)
    lines = [dict(zip(COLUMNS, [cell.strip() for cell in line.split("|")[1:-1]], strict=True)) for line in (first, last)]
    assert [line["px"] for line in lines] == ["48", "96"] and {line["pictures"] for line in lines} == {"2"}
    assert lines[1][BEST].endswith(", lr 0.01") and {line["loss"] for line in lines} == {"code"}

    chosen = {ADAM: dict(lr=0.002), THREE: dict(optimizer="polyak", n_iters=3)}
    ((truth, mask),) = scenes(2, 96, "thick", 5, "cpu")
    for way, ours in chosen.items():
        one_by_one = [
            multiscale_inpaint(truth[i : i + 1], mask[i : i + 1], model, progress=False, loss="code", **settings, **ours)
            for i in range(2)
        ]
        error = fraction(l1(torch.cat([result.image for result in one_by_one]), truth, mask))
        loss = sum(result.losses[-1][-1] for result in one_by_one) / 2
        assert lines[1][way] == f"{error:.4f} ({loss:.4f})"
    plain = fraction(l1(model(truth, mask), truth, mask))
    assert lines[1]["plain"] == f"{plain:.4f}"
    errors = {way: float(lines[1][way].split()[0]) for way in (BEST, FIVE, THREE)}
    for way in (FIVE, THREE):
        gained = float(lines[1][f"{way} below {BEST}"].split("%")[0]) / 100
        assert gained == pytest.approx(1 - errors[way] / errors[BEST], abs=2e-3)


def test_the_best_rate_is_that_of_the_lowest_error(monkeypatch):
    torch.manual_seed(0)
    model, settings = split_network(UNet(4, 1)), dict(smallest_scale=32, erosion=3)
    for rates in ((1e-7, 30.0), (30.0, 1e-7)):  # one does next to nothing, the other makes black and white
        monkeypatch.setattr(few_updates, "RATES", rates)
        assert best_rate(scenes(2, 64, "thick", 5, "cpu"), model, **settings) == 1e-7


def test_it_is_asked_which_picture_knows_better():
    def knows_small_pictures(image, mask):
        return image if image.shape[-1] == 64 else image / 2

    (line,) = targets("a network", "thick", scenes(3, 128, "thick", 5, "cpu"), knows_small_pictures, erosion=3)
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert len(cells) == len(TARGETS) and cells[:4] == ["a network", "128", "thick", "0.0000"]
    assert 0.1 < float(cells[4]) < 0.5 and cells[5] == "100.0% [100.0%, 100.0%]"


def test_photos_are_shown_as_squares():
    drawn = list(squares(5, 96, "medium", 7))
    assert len(drawn) == 5 and all(photo.shape == (1, 3, 96, 96) and mask.any() for photo, mask in drawn)
    assert torch.equal(drawn[0][0], drawn[4][0]) and not torch.equal(drawn[0][1], drawn[4][1])  # other holes in the same photo


def test_weights_are_found_where_the_training_writes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(small_networks, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"u-net\.safetensors; python -m refine_lib\.workshop\.small_networks u-net"):
        model_of("u-net")
    network = NETWORKS["u-net"]().eval()
    save_generator(network, tmp_path / "u-net.safetensors")
    image, mask = picture(64, 64, dtype=torch.float32)
    assert torch.allclose(model_of("u-net")(image, mask), predicted(network, image, mask), atol=1e-5)
    monkeypatch.setattr(sys, "argv", ["small_networks", "u-net"])
    with pytest.raises(SystemExit):
        small_networks.main()  # nothing is written over


@pytest.mark.parametrize(
    "wrong, what",
    [
        (["none.safetensors"], "argument network: "),
        (["none.ckpt"], "argument network: "),
        (["mini-lama", "--times", "1"], "--times 1; expected"),
        (["mini-lama", "--lr", "-1"], "lr is -1"),
        (["mini-lama", "--seed", "-1"], "seed is -1"),
        (["mini-lama", "--erosion", "-1"], "erosion is -1"),
    ],
)
def test_the_command_says_what_is_wrong(wrong, what, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["few_updates", *wrong])
    with pytest.raises(SystemExit):
        few_updates.main()
    assert what in capsys.readouterr().err


def test_the_command_prints_a_table(monkeypatch, capsys):
    words = "few_updates mini-lama --name ours --losses paper --masks thick --pictures 1 --times 2 --erosion 3 --lr 0.005"
    monkeypatch.setattr(sys, "argv", words.split())
    few_updates.main()
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split(" | ")[1:4] == ["loss", "px", "holes"] and row.startswith("| ours | paper | 128 | thick, erosion 3 | 1 |")
    assert not math.isnan(float(row.split("|")[6]))
