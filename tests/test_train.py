"""Training: it learns, it is the same every time, and it goes on where it was."""

import pytest
import torch

from refine_lib import load_network
from refine_lib.train import hole_and_known_l1, learning_rate, picture_batch, train

SMALL = dict(size=32, batch=4, ngf=4, n_blocks=1, device="cpu")


def test_the_rate_rises_and_falls():
    assert learning_rate(0.0, 0) < learning_rate(0.01, 100) < learning_rate(0.02, 200) > learning_rate(0.5, 5000) > 0
    assert learning_rate(1.0, 10000) < 1e-9


def test_training_learns_and_writes_a_network_that_loads(tmp_path):
    path = tmp_path / "net.safetensors"
    torch.manual_seed(1)
    network = train(path, steps=60, **SMALL)
    image, mask = picture_batch(32, 16, seed=7, device="cpu")
    loaded = load_network(path, device="cpu")
    seen = torch.cat([image * (1 - mask), mask], dim=1)
    with torch.no_grad():
        assert torch.allclose(loaded(image, mask), network(seen), atol=1e-6)
    untrained = train(tmp_path / "other.safetensors", steps=1, **SMALL)
    with torch.no_grad():
        before, after = (sum(hole_and_known_l1(n(seen), image, mask)) for n in (untrained, network))
    assert after < before


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

    def draw_and_stop(size, batch, seed, device):
        if len(drawn) == 7:
            raise KeyboardInterrupt
        drawn.append(seed)
        return picture_batch(size, batch, seed, device)

    monkeypatch.setattr("refine_lib.train.picture_batch", draw_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part.safetensors", steps=12, **SMALL)
    again = []
    monkeypatch.setattr("refine_lib.train.picture_batch", lambda *a: again.append(a[2]) or picture_batch(*a))
    part = train(tmp_path / "part.safetensors", steps=12, **SMALL).state_dict()
    assert len(drawn) == 7 and len(again) == 5 and not set(drawn) & set(again)
    assert all(torch.equal(whole[key], part[key]) for key in whole)


def test_nothing_is_written_over(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="exists without a checkpoint"):
        train(path, steps=1, **SMALL)
    assert path.read_text() == "mine"


def test_a_stopped_run_keeps_what_it_has(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    path = tmp_path / "net.safetensors"
    monkeypatch.setattr("refine_lib.train.hole_and_known_l1", stop)
    with pytest.raises(KeyboardInterrupt):
        train(path, steps=5, **SMALL)
    assert path.exists() and path.with_suffix(".ckpt").exists()
