"""The long training: the same numbers whatever happens to it, a copy that is annealed, and a service that can be stopped."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch

from refine_lib import load_network
from refine_lib.workshop import service, train
from refine_lib.workshop import training as trainings
from refine_lib.workshop.patterns import random_patterns
from refine_lib.workshop.recipes import RECIPES, Recipe
from refine_lib.workshop.sheets import FIRST_SEED, PER_CHUNK, SIDE, DrawnAhead, PhotoSheets, Sheets, random_holes

SMALL = Recipe("patterns", ngf=4, n_blocks=1, batch=4)
ADVERSARIAL = SMALL.changed(adversarial=0.1, matching=1.0, features=0.5, large=0.3, noise=0.05)


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("recipe", [SMALL, ADVERSARIAL], ids=["l1", "all losses"])
def test_a_run_that_was_stopped_gives_the_numbers_of_an_undisturbed_one(tmp_path, recipe):
    whole = train.go_on(tmp_path / "whole", recipe, steps=12)
    train.go_on(tmp_path / "parts", recipe, steps=5)
    parts = train.go_on(tmp_path / "parts", recipe, steps=12)
    assert same(whole.network.state_dict(), parts.network.state_dict())
    assert same(whole.average.network.state_dict(), parts.average.network.state_dict())
    assert whole.pictures == parts.pictures and parts.step == 12


def test_rates_are_the_recipes_whatever_the_state_was_trained_with(tmp_path):
    first = train.go_on(tmp_path / "first", ADVERSARIAL, steps=2)
    slower = trainings.Training(ADVERSARIAL.changed(lr=0.001))
    slower.go_on_from(first.state())
    slower.train_step(rate=0.5)
    for optimizers in (slower.optimizers, slower.discriminator_optimizers):
        assert [group["peak"] for one in optimizers for group in one.param_groups] == [0.001, 0.0001]
        rates = [group["lr"] for one in optimizers for group in one.param_groups]
        assert rates == pytest.approx([0.001 * 0.5 * 3 / trainings.WARM_UP, 0.0001 * 0.5 * 3 / trainings.WARM_UP])


def test_a_penalized_step_moves_the_discriminator_as_its_gradient_says():
    training = trainings.Training(ADVERSARIAL.changed(penalty=0.01, large=0))
    twin = trainings.Training(ADVERSARIAL.changed(penalty=0.01, large=0))
    for one in (training, twin):
        one.step = 8  # a step with a penalty
    for parameter in twin.discriminator.parameters():  # the same weights, in another memory format
        parameter.data = parameter.data.contiguous()
    training.train_step()
    twin.train_step()
    for a, b in zip(training.discriminator.parameters(), twin.discriminator.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3), (a - b).abs().max()  # in bfloat16


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    with filelock.FileLock(tmp_path / "lock"), pytest.raises(filelock.Timeout):
        train.go_on(tmp_path, SMALL, steps=1)
    assert not (tmp_path / "state.ckpt").exists()


@pytest.mark.killed
def test_a_run_that_was_killed_gives_the_numbers_of_an_undisturbed_one(tmp_path):
    change = [f"{name}={value}" for name, value in SMALL.as_dict().items()]
    command = [sys.executable, "-m", "refine_lib.workshop.train", "--steps", "60", "--save-every", "0.2", "--change", *change]
    moments = torch.rand(3, generator=torch.Generator().manual_seed(int(time.time()))).tolist()
    state, written = tmp_path / "killed" / "state.ckpt", 0
    for moment in moments:
        run = subprocess.Popen([*command, "--", tmp_path / "killed"])
        deadline = time.monotonic() + 60
        while not (state.exists() and state.stat().st_mtime_ns > written) and time.monotonic() < deadline:
            time.sleep(0.02)
        written = state.stat().st_mtime_ns
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        run.wait()
    for folder in ("killed", "undisturbed"):
        subprocess.run([*command, "--", tmp_path / folder], check=True)
    killed, undisturbed = (torch.load(tmp_path / f / "state.ckpt", weights_only=True) for f in ("killed", "undisturbed"))
    assert killed["counters"]["step"] == undisturbed["counters"]["step"] == 60, moments
    assert same(killed["network"], undisturbed["network"]), moments
    assert same(killed["average"]["network"], undisturbed["average"]["network"]), moments


def test_it_learns_and_an_annealed_copy_loads_while_the_state_stays(tmp_path):
    folder = tmp_path / "run"
    training = train.go_on(folder, SMALL, steps=150, watch_every=50)
    assert training.log[-1][4] < training.log[0][4] and (folder / "preview.png").exists()
    training.watch_at_4x(folder, n=3)
    assert (folder / "effect.csv").read_text().splitlines()[0] == ",".join(trainings.EFFECT)
    assert training.effects[-1][2:5] == pytest.approx([0.2] * 3, abs=0.15)
    before = (folder / "state.ckpt").read_bytes()
    annealed = train.anneal(folder / "state.ckpt", 30, tmp_path / "net.safetensors")
    assert (folder / "state.ckpt").read_bytes() == before and annealed.step == 180
    model = load_network(tmp_path / "net.safetensors", device="cpu")
    image, mask, _ = trainings.watched_pictures("patterns", training.sheets, n=8)
    hidden = torch.cat([image * (1 - mask), mask], dim=1)
    with torch.no_grad():
        assert torch.allclose(model(image, mask), annealed.average.network.eval()(hidden), atol=5e-3)  # half precision


def test_a_run_starts_from_an_average_and_counts_on(tmp_path):
    first = train.go_on(tmp_path / "first", SMALL, steps=6)
    first.export(tmp_path / "average.safetensors")
    second = trainings.Training(SMALL, start=tmp_path / "average.safetensors")
    assert (second.step, second.pictures) == (6, 24)
    for (name, a), b in zip(first.average.network.state_dict().items(), second.network.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-4), name
    second.train_step()
    assert second.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.02 / trainings.WARM_UP)  # the rate rises again


def test_a_branch_goes_on_by_another_recipe(tmp_path):
    train.go_on(tmp_path / "main", SMALL, steps=4)
    train.branch(tmp_path / "main" / "state.ckpt", tmp_path / "branch", ADVERSARIAL)
    branch = train.go_on(tmp_path / "branch", ADVERSARIAL, steps=6)
    assert branch.step == 6 and branch.discriminator is not None
    with pytest.raises(ValueError, match="expected this recipe"):
        train.go_on(tmp_path / "branch", SMALL, steps=8)
    train.branch(tmp_path / "main" / "state.ckpt", tmp_path / "branch", ADVERSARIAL)  # the same command again: it goes on
    assert torch.load(tmp_path / "branch" / "state.ckpt", weights_only=True)["counters"]["step"] == 6
    with pytest.raises(FileExistsError, match="holds another training"):
        train.branch(tmp_path / "main" / "state.ckpt", tmp_path / "branch", SMALL)


def test_a_recipe_says_what_is_wrong_with_a_change():
    assert SMALL.changed(ngf="24").ngf == 24
    with pytest.raises(ValueError, match="width is not a part of a recipe"):
        SMALL.changed(width=3)
    with pytest.raises(ValueError, match="ngf is 'many'; expected int"):
        SMALL.changed(ngf="many")
    with pytest.raises(ValueError, match="world is 'moon'"):
        Recipe("moon")
    with pytest.raises(ValueError, match="batch is 24; expected a divisor of 128"):
        SMALL.changed(batch=24)


def test_training_pictures_are_a_function_of_the_step():
    one, other = Sheets("patterns", 8), Sheets("patterns", 8)
    one.batch(0)
    for size, n in ((64, 8), (128, 2)):
        (image, mask), (again, hole) = one.batch(400, size), other.batch(400, size)
        assert image.shape == (n, 3, size, size) and mask.shape == (n, 1, size, size)
        assert torch.equal(image, again) and torch.equal(mask, hole)
        assert 0 <= image.min() and image.max() <= 1 and set(mask.unique().tolist()) == {0, 1}
    assert one.first_seed >= FIRST_SEED  # held-out pictures have smaller seeds


def test_sheets_that_are_drawn_ahead_are_the_same():
    ahead = DrawnAhead("patterns", None, workers=1)
    try:
        for seed in (7, 8):
            assert torch.equal(ahead(seed), random_patterns(SIDE, PER_CHUNK, seed))
    finally:
        ahead.close()


def test_a_device_that_is_not_there_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path / "a"), "--device", "cuda:77"])
    with pytest.raises(SystemExit):
        train.main()
    assert "argument --device" in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_holes_are_of_all_kinds_and_never_empty():
    masks = random_holes(64, 256, seed=3)
    share = masks.mean((1, 2, 3))
    assert share.min() > 0 and share.max() < 0.6 and 0.1 < share.mean() < 0.35


def test_photos_of_a_folder_become_sheets(tmp_path):
    from PIL import Image

    Image.new("RGB", (300, 200), (255, 0, 0)).save(tmp_path / "red.png")
    sheets = PhotoSheets(tmp_path).draw(SIDE, 2, seed=0)
    assert sheets.shape == (2, 3, SIDE, SIDE)
    assert torch.allclose(sheets, torch.tensor([1.0, 0, 0])[:, None, None].expand_as(sheets))
    with pytest.raises(ValueError, match="expected a folder of pictures"):
        PhotoSheets(tmp_path / "nowhere")


def test_the_service_starts_from_a_kept_average_where_no_state_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path))
    monkeypatch.setitem(RECIPES, "mini-lama", SMALL)
    folder = service.folder_of("mini-lama")
    train.go_on(folder, SMALL, steps=6)
    monkeypatch.setattr(service, "__file__", str(tmp_path / "service.py"))  # the workshop that it is kept in
    assert "after 24 pictures" in service.keep("mini-lama")
    (folder / "state.ckpt").unlink()  # a lost machine

    def freeze(folder, freeze=service.freeze):
        code = freeze(folder)
        shutil.copy(tmp_path / "mini-lama.safetensors", code / "refine_lib" / "workshop")
        return code

    monkeypatch.setattr(service, "freeze", freeze)
    small = [f"{name}={value}" for name, value in SMALL.as_dict().items()]
    assert "starts from mini-lama.safetensors" in service.start("mini-lama", ["--change", *small])
    deadline = time.monotonic() + 90
    while "pictures" not in (folder / "output.txt").read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    service.stop("mini-lama")
    counters = torch.load(folder / "state.ckpt", weights_only=True)["counters"]
    assert counters["first_step"] == 6 and counters["pictures"] >= 24


def test_the_service_starts_stops_and_goes_on_from_frozen_code(tmp_path, monkeypatch):
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path))

    def freeze(folder, freeze=service.freeze):
        code = freeze(folder)
        for average in (code / "refine_lib" / "workshop").glob("*.safetensors"):  # a clone may hold some, of other recipes
            average.unlink()
        return code

    monkeypatch.setattr(service, "freeze", freeze)
    small = [f"{name}={value}" for name, value in SMALL.as_dict().items()]
    told = service.start("mini-lama", ["--change", *small])
    folder = service.folder_of("mini-lama")
    try:
        assert "starts from nothing" in told and "runs already" in service.start("mini-lama")
        process = service.process_of(folder)
        deadline = time.monotonic() + 90
        while "pictures" not in (folder / "output.txt").read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert process.nice() == 19
        group = Path("/proc") / str(process.pid) / "autogroup"
        assert not group.exists() or not group.read_text() or "nice 19" in group.read_text()
        assert str(folder / "code") in process.environ()["PYTHONPATH"]
    finally:
        assert "stopped at" in service.stop("mini-lama")
    assert service.process_of(folder) is None
    state = torch.load(folder / "state.ckpt", weights_only=True)
    assert state["counters"]["pictures"] == json.loads((folder / "now.json").read_text())["pictures"]
    assert "does not run" in service.status("mini-lama") and "output: " in service.status("mini-lama")
    assert "does not run" in service.stop("mini-lama")
    code = Path(folder / "code" / "refine_lib" / "workshop" / "train.py")
    code.write_text("raise SystemExit('the frozen copy ran')\n")
    assert "goes on from its state" in service.start("mini-lama")
    deadline = time.monotonic() + 30
    while "the frozen copy ran" not in (folder / "output.txt").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "the frozen copy ran" in (folder / "output.txt").read_text()
    while service.process_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        service.renew("mini-lama")  # the recipe of that name has more channels
    assert "SystemExit" in code.read_text()  # and all is as it was
    monkeypatch.setitem(RECIPES, "mini-lama", SMALL.changed(lr=0.01))
    service.renew("mini-lama")
    assert torch.load(folder / "state.ckpt", weights_only=True)["recipe"]["lr"] == 0.01
    assert "SystemExit" not in code.read_text()
