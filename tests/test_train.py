"""Training: it learns, it is the same every time, and it goes on where it was."""

import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from refine_lib import load_network
from refine_lib.workshop.muon import Muon, orthogonalised
from refine_lib.workshop.train_first import hole_and_known_l1, picture_batch, rate, train

SMALL = dict(size=32, batch=4, ngf=4, n_blocks=1, device="cpu")


def test_the_rate_rises_stays_and_falls():
    assert rate(0.0, 0) < rate(0.01, 50) < rate(0.02, 100) == rate(0.4, 2000) == 1
    assert 0 < rate(0.9, 9000) < rate(0.6, 6000) < 1
    assert rate(1.0, 10000) == 0


def test_an_update_is_made_orthogonal():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 12, 40, generator=generator) * torch.logspace(0, -2, 12)[:, None]  # some directions far weaker
    for shaped in (matrices, matrices.mT):
        before, after = torch.linalg.svdvals(shaped), torch.linalg.svdvals(orthogonalised(shaped))
        assert (before.amin(1) < 0.02 * before.amax(1)).all()
        assert after.min() > 0.3 and after.max() < 1.3
        u, _, v = torch.linalg.svd(shaped, full_matrices=False)
        assert ((orthogonalised(shaped) * (u @ v)).sum((1, 2)) > 0.9 * 12 * 0.8).all()  # the same directions


def test_muon_finds_a_minimum_that_lies_in_a_narrow_valley():
    wanted = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    weight = torch.nn.Parameter(torch.zeros_like(wanted))
    muon = Muon([weight], lr=0.1, weight_decay=0)
    steepness = torch.logspace(0, -2, 8)[:, None, None, None]
    for step in range(200):
        muon.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        muon.zero_grad()
        (steepness * (weight - wanted) ** 2).sum().backward()
        muon.step()
    assert (weight - wanted).abs().mean() < 0.1 * wanted.abs().mean()


def test_training_learns_and_writes_a_network_that_loads(tmp_path):
    path = tmp_path / "net.safetensors"
    network = train(path, steps=200, **SMALL)
    image, mask = picture_batch(32, 64, seed=7, device="cpu")
    loaded = load_network(path, device="cpu")
    seen = torch.cat([image * (1 - mask), mask], dim=1)
    with torch.no_grad():
        assert torch.allclose(loaded(image, mask), network(seen), atol=2e-3)  # half precision
    untrained = train(tmp_path / "other.safetensors", steps=1, **SMALL)
    with torch.no_grad():
        before, after = (sum(hole_and_known_l1(n(seen), image, mask)) for n in (untrained, network))
    assert after < 0.95 * before


def test_a_run_is_the_same_every_time_and_goes_on_from_its_checkpoint(tmp_path):
    def weights(name, steps):
        return train(tmp_path / f"{name}.safetensors", steps=steps, **SMALL).state_dict()

    whole, again = weights("whole", 12), weights("again", 12)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    done = weights("whole", 12)  # from its checkpoint there is nothing left to do
    assert all(torch.equal(whole[key], done[key]) for key in whole)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole.safetensors", steps=12, **SMALL).state_dict()
    drawn = []

    def measure_and_stop(*args):
        if len(drawn) == 6:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C in the middle of a step
        drawn.append(1)
        return hole_and_known_l1(*args)

    monkeypatch.setattr("refine_lib.workshop.train_first.hole_and_known_l1", measure_and_stop)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part.safetensors", steps=12, **SMALL)
    assert len(drawn) == 7 and signal.getsignal(signal.SIGINT) is before
    assert load_network(tmp_path / "part.safetensors", device="cpu")  # what there is can be used
    part = train(tmp_path / "part.safetensors", steps=12, **SMALL).state_dict()
    assert len(drawn) == 12
    assert all(torch.equal(whole[key], part[key]) for key in whole)


def test_a_loss_that_is_not_finite_spoils_nothing(tmp_path, monkeypatch):
    path, seen = tmp_path / "net.safetensors", []

    def spoil(*args):
        seen.append(1)
        return tuple(loss * (float("nan") if len(seen) == 6 else 1) for loss in hole_and_known_l1(*args))

    monkeypatch.setattr("refine_lib.workshop.train_first.hole_and_known_l1", spoil)
    monkeypatch.setattr("refine_lib.workshop.train_first.Run.watch", lambda run: 0.0)
    with pytest.raises(RuntimeError, match="non-finite"):
        train(path, steps=12, watch_every=4, **SMALL)
    assert torch.load(path.with_suffix(".ckpt"), weights_only=True)["step"] == 4
    assert all(p.isfinite().all() for p in load_network(path, device="cpu").parameters())


def test_a_checkpoint_of_another_run_is_named(tmp_path):
    train(tmp_path / "net.safetensors", steps=1, **SMALL)
    with pytest.raises(ValueError, match="net.ckpt is of a run with .*'ngf': 4.*; expected these, not .*'ngf': 8"):
        train(tmp_path / "net.safetensors", steps=2, **SMALL | {"ngf": 8})


def test_a_run_can_be_watched(tmp_path):
    train(tmp_path / "net.safetensors", steps=4, watch_every=2, **SMALL)
    header, *lines = (tmp_path / "net.csv").read_text().splitlines()
    assert header == "steps,pictures,seconds,hole_l1,hole_l1_unseen"
    assert [line.split(",")[:2] for line in lines] == [["2", "8"], ["4", "16"]]
    assert all(0 < float(value) < 1 for line in lines for value in line.split(",")[3:])
    with Image.open(tmp_path / "net.png") as strip:
        assert strip.size == (12 * 32, 3 * 32)


@pytest.mark.parametrize("taken", ["net.safetensors", "net.csv", "net.png"])
def test_nothing_is_written_over(tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{taken} exists without a checkpoint"):
        train(tmp_path / "net.safetensors", steps=1, **SMALL)
    assert (tmp_path / taken).read_text() == "mine"


@pytest.mark.parametrize(
    "wrong, what",
    [
        (dict(steps=0), "steps 0.* more than 0"),
        (dict(minutes=0), "minutes 0.* more than 0"),
        (dict(watch_every=0), "watch_every 0.* more than 0"),
        (dict(batch=0), "batch 0.* more than 0"),
        (dict(size=60), "size is 60; expected a multiple of 8"),
        (dict(seed=7), "seed is 7; expected 0, 1, 2 or 3"),
    ],
)
def test_a_wrong_argument_is_named_and_leaves_no_file(tmp_path, wrong, what):
    with pytest.raises(ValueError, match=what):
        train(tmp_path / "net.safetensors", **SMALL | wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["net.ckpt", "net", "none/net.safetensors"])
def test_a_path_that_cannot_be_is_named_before_any_work(tmp_path, path):
    with pytest.raises(ValueError, match="expected a file named .safetensors in a folder that exists"):
        train(tmp_path / path, steps=1, **SMALL)


def test_the_command_says_what_is_wrong_in_a_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "refine_lib.workshop.train_first",
        str(tmp_path / "none" / "net.safetensors"),
        "--device",
        "cpu",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and "in a folder that exists" in run.stderr and "Traceback" not in run.stderr
