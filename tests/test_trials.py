"""Trials side by side: each tells of itself what is changed, and all are measured on the same scenes."""

import sys

import pytest
import torch

from refine_lib.workshop import trials, worlds
from refine_lib.workshop.recipes import Recipe
from refine_lib.workshop.training import Training

SMALL = Recipe("patterns", ngf=4, n_blocks=1, batch=4)


def test_the_scenes_of_a_strip_are_of_each_generator():
    few, masks = trials.unseen(3, 64, seed=5)
    more, _ = trials.unseen(4, 64, seed=5)
    assert few.shape == (6, 3, 64, 64) and masks.shape == (6, 1, 64, 64)
    assert torch.equal(more[:6], few)  # the strip's come first, however many there are


def test_a_trial_says_what_is_changed():
    assert trials.changes(SMALL.as_dict(), SMALL.as_dict()) == "as it is"
    assert trials.changes(SMALL.changed(hole=0, noise=0.1).as_dict(), SMALL.as_dict()) == "hole 0.0, noise 0.1"


def test_the_command_prints_a_line_for_each_trial_and_draws_a_strip(tmp_path, monkeypatch, capsys):
    paths = []
    for name, recipe in (("first", SMALL), ("second", SMALL.changed(known=1.0))):
        training = Training(recipe)
        training.train_step()
        training.export(tmp_path / f"{name}.safetensors")
        paths.append(str(tmp_path / f"{name}.safetensors"))
    monkeypatch.setattr(sys, "argv", ["trials", *paths, "--scenes", "3", "--figure", str(tmp_path / "strip.png")])
    trials.main()
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("| ")]
    assert any(line.startswith("| first: as it is | 4 | 0 |") for line in table)
    assert any(line.startswith("| second: known 1.0 | 4 | 0 |") for line in table)
    assert "6" in printed and "seed 5" in printed and (tmp_path / "strip.png").stat().st_size > 10_000
    monkeypatch.setattr(sys, "argv", ["trials", *paths, "--scenes", "2"])
    with pytest.raises(SystemExit):
        trials.main()
    assert "--scenes is 2; expected 3 or more" in capsys.readouterr().err


def test_the_worlds_are_drawn_in_rows():
    figure = worlds.draw_worlds(n=2, size=32, seed=1)
    assert len(figure.axes) == 2 * len(worlds.ROWS)
