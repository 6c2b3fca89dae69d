"""The panel and the painter without a page: every control by its value and its click, runs that stop, raise and overlap."""

import base64
import gc
import inspect
import io
import json
import random
import re
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import asdict, replace
from types import SimpleNamespace

import nbformat
import numpy as np
import psutil
import pytest
import torch
from conftest import picture
from ipywidgets import IntSlider, Widget
from matplotlib import pyplot as plt
from nbconvert import HTMLExporter
from PIL import Image

from refine_lib import build_pyramid, erode, load_network, multiscale_inpaint, random_scenes, stroke_masks
from refine_lib.checks import LOSSES
from refine_lib.masks import paste
from refine_lib.metrics import hole_l1
from refine_lib.networks.probe import device_of
from refine_lib.optimizers import OPTIMIZERS, PRESETS
from refine_lib.photos.pixels import load_photo, to_pixels
from refine_lib.plots import HOLE_COLOR
from refine_lib.pyramid import whole_hole
from refine_lib.widgets import MaskPainter, Run, Runner, Settings, Tuner, Workbench, draw
from refine_lib.widgets.pace import Pace, measure_pace
from refine_lib.widgets.painting import Painting
from refine_lib.widgets.runs import N_PICTURES

FAST = dict(smallest_scale=32, n_iters=3, erosion=3, lr=0.01)


class Network:
    """A split network that lets a test look on: it may raise, or wait for the test, in a call of the rear."""

    def __init__(self, model, before_rear=lambda call: None):
        self.model, self.before_rear, self.calls = model, before_rear, 0

    def parameters(self):
        return self.model.parameters()

    def front(self, image, mask):
        return self.model.front(image, mask)

    def rear(self, z):
        self.calls += 1
        self.before_rear(self.calls)
        return self.model.rear(z)

    def __call__(self, image, mask):
        return self.model(image, mask)


@pytest.fixture
def scene():
    return random_scenes(64, seed=4), stroke_masks(64, seed=4)


@pytest.fixture
def tuner(scene, tiny_single):
    tuner = Tuner(*scene, tiny_single, **FAST)
    assert tuner.wait(60)
    yield tuner
    tuner.stop()
    assert tuner.wait(60)


def lines_of(svg):
    """What is drawn: the paths of an SVG, whose names are random."""
    return re.findall(r' d="([^"]*)"', svg)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


class TestSettings:
    def test_the_defaults_are_the_method_s(self):
        parameters = inspect.signature(multiscale_inpaint).parameters
        assert asdict(Settings()) == {name: parameters[name].default for name in asdict(Settings())}

    def test_every_setting_has_a_control_and_a_column(self, tuner):
        settings = Settings(lr=0.02, n_iters=2, erosion=5, smallest_scale=16, loss="code")
        tuner.settings = settings
        for name, value in asdict(settings).items():
            control = getattr(tuner.controls, name)
            assert control.value == pytest.approx(value) and control.description and control.tooltip
            assert f"<th>{control.description.split(',')[0]}</th>" in tuner.controls.table.value

    def test_every_choice_is_offered(self, tuner):
        assert set(tuner.controls.loss.options.values()) == set(LOSSES)
        assert set(tuner.controls.optimizer.options.values()) == set(OPTIMIZERS)

    def test_a_setting_that_an_older_file_lacks_has_its_default(self):
        assert Settings.from_json('{"settings": {"lr": 0.01}}') == Settings(lr=0.01)
        with pytest.raises(ValueError, match="expected JSON with lr, n_iters"):
            Settings.from_json('{"settings": {"speed of light": 1}}')


class TestTuner:
    def test_at_rest_it_shows_the_hole_the_plain_pass_and_an_estimate(self, tuner, scene, tiny_single):
        (image, mask), there = scene, device_of(tiny_single, torch.device("cpu"))
        plain = torch.where(mask > 0, tiny_single(image.to(there), mask.to(there)).to(image.device), image)
        assert np.array_equal(pixels(tuner.controls.viewer.after), to_pixels(plain))
        hole = pixels(tuner.controls.viewer.before)[mask[0, 0].numpy(force=True) > 0]
        assert (hole == HOLE_COLOR).all()
        assert tuner.controls.estimate.value.startswith("a run takes about ") and not tuner.controls.message.value
        assert tuner.controls.stop.disabled and not tuner.controls.run.disabled
        shown = f"Tuner(64 x 64 px, {mask.mean():.1%} hole, lr=0.01, n_iters=3, erosion=3, smallest_scale=32"
        assert repr(tuner) == f"{shown})"  # short, since a page shows its first 110 characters alone
        tuner.settings = replace(tuner.settings, optimizer="polyak")
        assert repr(tuner) == f"{shown}, optimizer='polyak')"

    def test_run_gives_what_the_function_gives_and_shows_it(self, tuner, scene, tiny_single):
        image, mask = scene
        tuner.controls.run.click()
        assert tuner.wait(60)
        expected = multiscale_inpaint(image, mask, tiny_single, progress=False, **FAST)
        (run,) = tuner.runs
        assert run.state == "finished" and run.losses == expected.losses
        assert torch.equal(run.result.image, expected.image)
        assert run.error == hole_l1(expected.image, image, mask)
        assert np.array_equal(pixels(tuner.controls.viewer.after), to_pixels(expected.image))
        assert tuner.controls.viewer.after_name == "run 1" and tuner.controls.viewer.before_name == "plain"
        directly = Run(1, tuner.settings, [(32, 32), (64, 64)], losses=expected.losses)
        ours, wanted = tuner.controls.curves.value, draw.charts(draw.losses([directly]), "")
        assert lines_of(ours) == lines_of(wanted) and "the loss of run 1, level 2: " in ours and "currentColor" in ours
        assert f"<td>{expected.losses[-1][-1]:.4f}</td>" in tuner.controls.table.value

    def test_every_setting_reaches_the_run(self, tuner):
        controls = tuner.controls
        controls.lr.value, controls.n_iters.value, controls.erosion.value = 0.02, 2, 5
        controls.smallest_scale.value, controls.loss.value = 16, "code"
        controls.run.click()
        tuner.wait(60)
        run = tuner.runs[-1]
        assert run.settings == Settings(lr=0.02, n_iters=2, erosion=5, smallest_scale=16, loss="code")
        assert run.sizes == [(16, 16), (32, 32), (64, 64)] and [len(losses) for losses in run.losses] == [3, 3]

    def test_with_polyak_s_steps_there_is_no_learning_rate(self, tuner, scene, tiny_single):
        controls = tuner.controls
        controls.optimizer.value = "polyak"
        assert controls.lr.disabled and tuner.settings.optimizer == "polyak"
        controls.run.click()
        tuner.wait(60)
        expected = multiscale_inpaint(*scene, tiny_single, progress=False, optimizer="polyak", **FAST)
        assert tuner.runs[0].losses == expected.losses
        assert "<td>1</td><td></td><td>3</td>" in controls.table.value and "<td>polyak</td>" in controls.table.value
        controls.reset.click()
        assert tuner.settings.optimizer == "adam" and not controls.lr.disabled
        other = Tuner(*scene, tiny_single, **FAST, optimizer="polyak")
        assert other.settings.optimizer == "polyak" and other.controls.lr.disabled
        assert other.wait(60)

    def test_reset_goes_back_to_the_paper_but_keeps_the_training_size(self, tuner):
        tuner.controls.loss.value = "code"
        tuner.controls.reset.click()
        assert tuner.settings == Settings(lr=0.002, n_iters=15, erosion=15, smallest_scale=32, loss="paper")

    def test_settings_out_of_a_slider_s_range_widen_it(self, tuner):
        wanted = Settings(lr=2.0, n_iters=400, erosion=90, smallest_scale=20, loss="code")
        tuner.settings = wanted
        assert tuner.settings == wanted

    def test_the_erosion_shows_its_mask_at_once(self, tuner, scene):
        seen = []
        for erosion in (1, 7):
            tuner.controls.erosion.value = erosion
            level, below = build_pyramid(*scene, 32)[1], (32, 32)
            share = erode(whole_hole(level.mask, below), erosion).sum() / whole_hole(level.mask, below).sum()
            assert f"{share:.0%} at level 2" in tuner.controls.seen.value
            strip = np.asarray(Image.open(io.BytesIO(tuner.controls.holes.value)).convert("RGB"))
            seen.append((strip == draw.SEEN_COLOR).all(-1).sum())
            assert abs(seen[-1] / 130**2 - erode(whole_hole(level.mask, below), erosion).mean()) < 0.01
        assert seen[0] > seen[1] > 0
        tuner.controls.erosion.value = 63
        assert "nothing at level 2" in tuner.controls.seen.value
        tuner.controls.smallest_scale.value = 64
        assert "one level" in tuner.controls.seen.value

    def test_stop_answers_within_one_iteration_and_keeps_the_picture(self, tuner, scene):
        tuner.controls.n_iters.max = 10**6
        tuner.controls.n_iters.value = 10**6
        tuner.controls.run.click()
        run = tuner.runs[-1]
        wait_until(lambda: run.losses and len(run.losses[0]) > 3)
        assert not tuner.controls.stop.disabled and tuner.controls.progress.layout.display is None
        tuner.controls.stop.click()
        so_far = len(run.losses[0])
        assert tuner.wait(60)
        assert len(run.losses[0]) <= so_far + 1
        assert run.state == "stopped" and "Stopped at level 2 of 2" in tuner.controls.message.value
        image, mask = scene
        known = mask[0, 0].numpy() == 0
        shown = pixels(tuner.controls.viewer.after)
        assert np.array_equal(shown[known], to_pixels(image)[known]) and np.array_equal(shown, run.pixels)
        assert not np.array_equal(shown[~known], to_pixels(image)[~known])
        assert tuner.controls.stop.disabled

    def test_ten_clicks_are_one_run(self, tuner):
        tuner.controls.n_iters.max = 10**6
        tuner.controls.n_iters.value = 10**6
        for _ in range(10):
            tuner.controls.run.click()
        tuner.controls.n_iters.value = 10**5
        tuner.controls.run.click()  # that asks for another one
        tuner.controls.lead.value = tuner.controls.lead.options[1][1]
        tuner.controls.run.click()  # and so does this, which is led by another network
        tuner.stop()
        tuner.controls.run.click()  # and this, since that one is to end
        assert [run.settings.n_iters for run in tuner.runs] == [10**6, 10**5, 10**5, 10**5]
        assert [bool(run.led_by) for run in tuner.runs] == [False, False, True, True]
        tuner.stop()
        assert tuner.wait(60)

    def test_a_run_started_over_another_stops_it(self, tuner, scene, tiny_single):
        tuner.controls.n_iters.max = 10**6
        tuner.controls.n_iters.value = 10**6
        tuner.controls.run.click()
        wait_until(lambda: tuner.runs[0].losses)
        tuner.controls.n_iters.value = 3
        tuner.run()
        tuner.run()
        assert tuner.wait(60)
        first, second, third = tuner.runs
        assert first.state == "stopped" and second.state in ("stopped", "finished") and third.state == "finished"
        assert third.losses == multiscale_inpaint(*scene, tiny_single, progress=False, **FAST).losses
        assert first.result is None and third.result is not None

    def test_a_network_that_raises_is_told_in_words_and_the_panel_goes_on(self, scene, tiny_single):
        def raises_later(call):
            if network.calls > limit[0]:
                raise RuntimeError("the <network> has had enough")

        limit, network = [1000], Network(tiny_single, raises_later)
        tuner = Tuner(*scene, network, **FAST)
        tuner.wait(60)
        limit[0] = network.calls + 4
        tuner.controls.run.click()
        tuner.wait(60)
        run = tuner.runs[0]
        assert run.state == "failed" and "raises_later" in run.details
        assert "RuntimeError: the &lt;network&gt; has had enough" in tuner.controls.message.value
        assert run.pixels.shape == (64, 64, 3)
        known = scene[1][0, 0].numpy() == 0
        assert np.array_equal(run.pixels[known], to_pixels(scene[0])[known])
        limit[0] = 10**6
        tuner.controls.run.click()
        tuner.wait(60)
        assert tuner.runs[1].state == "finished" and not tuner.controls.message.value

    def test_a_network_that_raises_before_any_run_is_told(self, scene, tiny_single):
        def raises(call):
            if network.calls > 1:  # the check in the constructor is one call
                raise RuntimeError("no")

        network = Network(tiny_single, raises)
        tuner = Tuner(*scene, network, **FAST)
        tuner.wait(60)
        assert "RuntimeError: no" in tuner.controls.message.value
        network = Network(tiny_single)
        network.__class__ = type("Plainless", (Network,), {"__call__": lambda *_: 1 / 0})
        tuner = Tuner(*scene, network, **FAST)
        tuner.wait(60)
        assert "ZeroDivisionError" in tuner.controls.message.value

    def test_a_fault_of_the_panel_itself_does_not_end_its_runs(self, scene, tiny_single, capsys):
        is_faulty = True
        runner = Runner(*scene, tiny_single, on_change=lambda: is_faulty and 1 / 0)
        assert runner.wait(60)
        run = runner.start(Settings(**FAST))
        assert runner.wait(60) and run.wait(60) and run.state == "failed"
        assert "ZeroDivisionError" in capsys.readouterr().err
        is_faulty = False
        run = runner.start(Settings(**FAST))
        assert runner.wait(60) and run.state == "finished"

    def test_a_run_whose_picture_is_no_longer_kept_is_not_offered(self, tuner):
        tuner.controls.n_iters.value = 0
        for _ in range(N_PICTURES):
            tuner.run().wait(60)
        tuner.wait(60)
        assert "run 1" in tuner.controls.before.options
        tuner.controls.before.value = "run 1"
        tuner.run()
        assert "run 1" not in tuner.controls.before.options and tuner.controls.before.value == "input"
        tuner.wait(60)
        with pytest.raises(ValueError, match="run 1 has no picture: .* 12 runs came after"):
            tuner.save_picture("never.png", tuner.runs[0])
        assert not tuner.controls.message.value

    def test_a_closed_panel_computes_no_more(self, scene, tiny_single):
        tuner = Tuner(*scene, tiny_single, **FAST | dict(n_iters=10**6))
        tuner.run()
        tuner.close()
        assert tuner.wait(60) and tuner.runs[0].state == "stopped"

    def test_a_closed_panel_lets_go_and_says_so(self, scene, tiny_single, tmp_path):
        tuner, other = Tuner(*scene, tiny_single, **FAST), IntSlider()
        run, photo = tuner.run(), weakref.ref(tuner._runner.photo)
        tuner.wait(60)
        tuner.close()
        assert tuner.is_closed and photo() is None and run.result is None and repr(tuner) == "Tuner(closed)"
        Widget.get_manager_state()  # no widget names one that is gone
        other.close()
        tuner.save_settings(tmp_path / "run.json")
        with pytest.raises(ValueError, match="run 1 has no picture: the panel was closed"):
            tuner.save_picture(tmp_path / "run.png")
        for call in (tuner.run, lambda: tuner.set_picture(*scene), lambda: tuner.fill(*scene), lambda: tuner.settings):
            with pytest.raises(ValueError, match="this panel was closed"):
                call()
        tuner.close()

    def test_the_same_code_run_again_closes_its_earlier_panel(self, scene, tiny_single):
        made = []
        for _ in range(3):
            painter = MaskPainter(*scene)
            tuner = Tuner(*scene, tiny_single, **FAST)
            painter.feed(tuner)
            made += [weakref.ref(painter), weakref.ref(tuner)]
            tuner.wait(60)
        other = Tuner(*scene, tiny_single, **FAST)
        assert other.wait(60) and not tuner.is_closed
        gc.collect()
        assert [panel() is None for panel in made] == [True] * 4 + [False] * 2

    def test_panels_of_one_run_of_a_cell_stay(self, scene, tiny_single, monkeypatch):
        shell = SimpleNamespace(execution_count=1, get_parent=lambda: {"metadata": {"cellId": "a"}})
        monkeypatch.setattr("refine_lib.widgets.panel.get_ipython", lambda: shell)
        first = [MaskPainter(*scene) for _ in range(2)]
        assert not any(panel.is_closed for panel in first)
        shell.execution_count = 2
        again = MaskPainter(*scene)
        assert all(panel.is_closed for panel in first) and not again.is_closed

    def test_a_run_that_diverges_is_told(self, scene, tiny_single):
        network = Network(tiny_single)
        tuner = Tuner(*scene, network, **FAST)
        tuner.wait(60)
        network.rear = lambda z: tiny_single.rear(z) * float("nan")
        tuner.controls.run.click()
        tuner.wait(60)
        assert tuner.runs[-1].state == "failed" and "is not finite" in tuner.controls.message.value

    def test_an_error_in_answering_the_page_is_told(self, tuner):
        tuner.controls.save_picture.click()
        assert tuner.controls.message.value == "there is no run to save yet; expected one that is over"
        assert "Traceback" not in tuner.controls.message.value

    def test_nothing_to_refine_is_said(self, tuner):
        tuner.controls.erosion.value = 63
        tuner.controls.run.click()
        tuner.wait(60)
        assert "Nothing was refined at level 2 of 2" in tuner.controls.message.value
        assert tuner.runs[-1].state == "finished" and tuner.runs[-1].loss is None and tuner.controls.progress.value == 0

    def test_saved_settings_run_again_to_the_same_loss(self, tuner, scene, tiny_single, tmp_path):
        tuner.controls.run.click()
        tuner.wait(60)
        tuner.save_settings(tmp_path / "run.json")
        text = (tmp_path / "run.json").read_text()
        saved = json.loads(text)
        again = multiscale_inpaint(*scene, tiny_single, progress=False, **saved["settings"])
        assert again.losses[-1][-1] == saved["loss"] == tuner.runs[0].loss
        assert saved["made_with"]["height"] == 64 and saved["state"] == "finished"
        tuner.settings = Settings()
        tuner.settings = Settings.from_json(text)
        tuner.controls.run.click()
        tuner.wait(60)
        assert tuner.runs[1].loss == saved["loss"]
        del saved["settings"]["optimizer"]
        assert Settings.from_json(json.dumps(saved)) == tuner.settings
        with pytest.raises(FileExistsError):
            tuner.save_settings(tmp_path / "run.json")
        assert (tmp_path / "run.json").read_text() == text
        with pytest.raises(ValueError, match="expected JSON with lr, n_iters"):
            Settings.from_json("{}")

    def test_pictures_are_saved_by_code_and_by_the_page(self, tuner, tmp_path, monkeypatch):
        sent = []
        monkeypatch.setattr(tuner.controls.viewer, "send", lambda content, buffers: sent.append((content, buffers)))
        with pytest.raises(ValueError, match="there is no run to save yet"):
            tuner.save_picture(tmp_path / "run.png")
        assert tuner.controls.save_picture.disabled
        tuner.controls.run.click()
        tuner.wait(60)
        tuner.save_picture(tmp_path / "run.png")
        assert np.array_equal(pixels((tmp_path / "run.png").read_bytes()), tuner.runs[0].pixels)
        with pytest.raises(FileExistsError):
            tuner.save_picture(tmp_path / "run.png")
        tuner.controls.save_picture.click()
        tuner.controls.save_settings.click()
        (name, (png,)), (other, (text,)) = sent
        assert name == {"download": "run_1.png"} and np.array_equal(pixels(png), tuner.runs[0].pixels)
        assert other == {"download": "run_1.json"} and Settings.from_json(text) == tuner.runs[0].settings

    def test_earlier_runs_are_ghosts_and_can_be_compared_with(self, tuner):
        for lr in (0.01, 0.05):
            tuner.controls.lr.value = lr
            tuner.controls.run.click()
            tuner.wait(60)
        ax = draw.losses(tuner.runs)[0].axes[0]
        assert [line.get_color() for line in ax.lines] == [draw.GHOST, draw.NOW]
        assert [list(line.get_ydata()) for line in ax.lines] == [run.losses[0] for run in tuner.runs]
        assert tuner.controls.before.options == ("input", "plain", "run 1", "run 2")
        tuner.controls.before.value = "run 1"
        assert np.array_equal(pixels(tuner.controls.viewer.before), tuner.runs[0].pixels)
        assert np.array_equal(pixels(tuner.controls.viewer.after), tuner.runs[1].pixels)
        tuner.controls.chosen.value = 1
        assert np.array_equal(pixels(tuner.controls.viewer.after), tuner.runs[0].pixels)
        assert tuner.controls.table.value.index("<td>2</td>") < tuner.controls.table.value.index("<td>1</td>")

    def test_the_error_is_shown_where_it_is_asked_for(self, tuner):
        tuner.controls.run.click()
        tuner.wait(60)
        error = f"<td>{tuner.runs[0].error:.4f}</td>"
        assert error not in tuner.controls.table.value
        tuner.controls.show_error.value = True
        assert error in tuner.controls.table.value and "<td>plain</td>" in tuner.controls.table.value

    def test_another_picture_begins_anew(self, tuner, tiny_single):
        tuner.controls.n_iters.max = 10**6
        tuner.controls.n_iters.value = 10**6
        tuner.controls.run.click()
        old = tuner.runs[0]
        wait_until(lambda: old.losses)
        image, mask = (t.float() for t in picture(96, 64))
        tuner.set_picture(image, mask)
        tuner.controls.n_iters.value = 2
        tuner.controls.run.click()
        assert tuner.wait(60)
        assert old.state == "stopped" and len(tuner.runs) == 1 and tuner.runs[0].number == 1
        assert pixels(tuner.controls.viewer.after).shape == (96, 64, 3)
        assert tuner.runs[0].losses == multiscale_inpaint(image, mask, tiny_single, 32, 2, 0.01, 3, progress=False).losses

    def test_another_hole_keeps_the_runs_of_the_same_picture(self, tuner, scene):
        tuner.run()
        tuner.wait(60)
        image, other = scene[0], torch.zeros_like(scene[1])
        other[..., 8:16, 8:24] = 1
        tuner.fill(image.clone(), other)
        assert tuner.wait(60)
        first, second = tuner.runs
        assert (first.number, second.number) == (1, 2) and first.state == second.state == "finished"
        assert tuner.controls.before.options == ("input", "plain", "run 1", "run 2")
        for run, mask in ((first, scene[1]), (second, other)):
            changed = (run.pixels != to_pixels(image)).any(-1)
            assert changed.any() and not changed[mask[0, 0].numpy(force=True) == 0].any()
            assert f"<td>{mask.mean():.1%}</td>" in tuner.controls.table.value
        assert tuner.controls.viewer.before_name == "plain"
        assert np.array_equal(pixels(tuner.controls.viewer.before), tuner._runner.plain)
        tuner.fill(1 - image, other)
        assert tuner.wait(60) and len(tuner.runs) == 1

    def test_a_small_hole_in_a_large_picture_is_computed_in_a_window(self, tuner, tiny_single, tmp_path):
        image, mask = random_scenes(512, seed=1), torch.zeros(1, 1, 512, 512, device="cpu")
        mask[..., 100:120, 300:330] = 1
        run = tuner.fill(image, mask)
        assert tuner.wait(60) and run.state == "finished"
        height, width = run.sizes[-1]
        assert height * width < 512**2 / 8 and run.result.image.shape[-2:] == (height, width)
        top, left = 100 - 24, 300 - 24  # three quarters of the smallest scale, on each side
        part = (..., slice(top, top + height), slice(left, left + width))
        expected = multiscale_inpaint(image[part], mask[part], tiny_single, progress=False, **FAST)
        assert run.losses == expected.losses
        whole = to_pixels(image)
        whole[part[1:]] = to_pixels(expected.image)
        tuner.save_picture(tmp_path / "run.png")
        assert np.array_equal(pixels((tmp_path / "run.png").read_bytes()), whole)
        assert f"on {width} x {height} px around the hole" in tuner.controls.estimate.value
        assert all("level" not in label for label, _ in tuner.controls.smallest_scale.options)
        assert json.loads(run.to_json())["made_with"]["height"] == 512

    def test_two_far_holes_are_the_whole_picture_s_work(self, tuner):
        mask = torch.zeros(1, 1, 256, 256, device="cpu")
        mask[..., 8:16, 8:16] = mask[..., 240:248, 240:248] = 1
        tuner.fill(random_scenes(256, seed=1), mask)
        assert tuner.wait(60) and tuner.runs[0].sizes[-1] == (256, 256)

    def test_a_preset_sets_what_belongs_to_it_and_is_shown(self, tuner):
        controls = tuner.controls
        assert controls.preset.value == "own settings"
        for name, preset in PRESETS.items():
            controls.preset.value = name
            assert preset.items() <= asdict(tuner.settings).items() and tuner.settings.lr == 0.01
            assert controls.preset.value == name and controls.n_iters.value == preset["n_iters"]
        controls.n_iters.value = 7
        assert controls.preset.value == "own settings"
        controls.preset.value = "own settings"
        assert tuner.settings.n_iters == 7

    def test_a_number_that_is_typed_counts_or_is_refused_in_words(self, tuner):
        controls = tuner.controls
        controls.boxes["n_iters"].value = 500
        assert tuner.settings.n_iters == controls.n_iters.value == 500
        controls.boxes["lr"].value = 0.5
        assert tuner.settings.lr == 0.5
        controls.boxes["n_iters"].value = -1
        assert "n_iters is -1" in controls.message.value and controls.boxes["n_iters"].value == 500
        controls.boxes["n_iters"].value = 5
        assert not controls.message.value and tuner.settings.n_iters == 5

    def test_what_was_said_goes_when_it_is_mended(self, tuner, scene):
        tuner.controls.erosion.value = 63
        tuner.run()
        tuner.wait(60)
        assert "Nothing was refined" in tuner.controls.message.value
        tuner.controls.erosion.value = 3
        assert not tuner.controls.message.value
        tuner.set_picture(scene[0], torch.ones_like(scene[1]))
        assert "The hole is the whole picture" in tuner.controls.message.value
        tuner.set_picture(*scene)
        assert not tuner.controls.message.value and tuner.wait(60)

    def test_the_error_is_offered_where_there_is_a_truth(self, tuner, scene):
        image, mask = scene
        for holds_truth in (True, False):
            tuner.fill(1 - image if holds_truth else image, mask, holds_truth=holds_truth)
            assert tuner.controls.show_error.value == holds_truth
            assert tuner.controls.show_error.layout.display == (None if holds_truth else "none")
            assert tuner.wait(60) and ("error" in tuner.controls.table.value) == holds_truth

    @pytest.mark.parametrize("is_noise", [False, True])
    def test_a_notebook_keeps_a_small_still_picture(self, tuner, scene, is_noise):
        image = torch.rand(1, 3, 512, 512, device="cpu") if is_noise else random_scenes(512, seed=1)
        tuner.set_picture(image, stroke_masks(512, seed=1))
        assert tuner.wait(60)
        bundle = tuner._repr_mimebundle_()
        assert {"text/plain", "image/jpeg", "application/vnd.jupyter.widget-view+json"} == set(bundle)
        again = draw.instead_of_an_error(bundle["image/jpeg"], "refine-still")  # which a shell is sent, too
        assert len(json.dumps(bundle)) + len(again) < 100_000
        shown = Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"]))).convert("RGB")
        side = shown.height - 20  # a line of words is below
        small = Image.fromarray(tuner._display.latest()).resize((side, side))
        difference = np.asarray(shown, dtype=float)[:side, :side] - np.asarray(small)
        assert np.abs(difference).mean() < (40 if is_noise else 4)

    def test_an_exported_notebook_shows_it_in_place_of_an_error(self, tuner):
        output = nbformat.v4.new_output("display_data", data=tuner._repr_mimebundle_())
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("tuner", outputs=[output])])
        page = HTMLExporter().from_notebook_node(notebook)[0]
        assert 'src="data:image/jpeg;base64,' in page and tuner.model_id not in page

    def test_it_counts_while_a_run_goes_on(self, tuner, monkeypatch):
        monkeypatch.setattr("refine_lib.widgets.tuner.BEAT_SECONDS", 0.01)
        seen = []
        tuner.controls.viewer.observe(lambda change: seen.append(change.new), "alive")
        tuner.settings = replace(tuner.settings, n_iters=10**6)
        tuner.run()
        wait_until(lambda: len(seen) > 5)
        tuner.stop()
        wait_until(lambda: tuner.controls.viewer.alive == 0)
        assert seen[:3] == [1, 2, 3] and tuner.wait(60)

    def test_it_counts_no_more_where_another_picture_has_no_run_yet(self, tuner, monkeypatch):
        monkeypatch.setattr("refine_lib.widgets.tuner.BEAT_SECONDS", 0.01)
        tuner.settings = replace(tuner.settings, n_iters=10**6)
        run = tuner.run()
        wait_until(lambda: tuner.controls.viewer.alive > 1)
        with tuner._lock:
            tuner.set_picture(random_scenes(96, seed=2), stroke_masks(96, seed=2))
        assert run.wait(60) and tuner.wait(60)
        wait_until(lambda: all("_beat" not in thread.name for thread in threading.enumerate()))
        assert tuner.runs == [] and tuner.controls.message.value == "" and tuner.controls.viewer.alive == 0

    def test_another_network_or_a_picture_leads(self, tuner, scene, tiny_single, tmp_path):
        image, mask = scene
        controls, black = tuner.controls, Image.new("RGB", (32, 32))
        assert {"mini-lama", "mini-conv"} <= {value for _, value in controls.lead.options}
        black.save(tmp_path / "black.png")
        level = build_pyramid(image, mask, 32)[0]
        other = paste(load_network("mini-conv", "cpu")(level.image, level.mask), level.image, level.mask)
        for choice, guide in (("mini-conv", other), ("a picture from a file", torch.zeros(1, 3, 32, 32, device="cpu"))):
            controls.lead.value = choice
            if guide is not other:
                controls.run.click()
                assert "no picture was given" in controls.message.value
                controls.lead_path.value = str(tmp_path / "black.png")
            controls.run.click()
            assert tuner.wait(60) and not controls.message.value
            expected = multiscale_inpaint(image, mask, tiny_single, progress=False, guide=guide, **FAST)
            assert tuner.runs[-1].losses == expected.losses and torch.equal(tuner.runs[-1].result.image, expected.image)
        assert "<td>mini-conv</td>" in controls.table.value and "<td>a picture</td>" in controls.table.value
        controls.lead_path.value = "nowhere.png"
        assert "nowhere.png" in controls.message.value
        with pytest.raises(ValueError, match="expected the same proportions"):
            tuner.guide = Image.new("RGB", (64, 32))
        tuner.set_picture(1 - image, mask)
        assert tuner.guide is None and controls.lead.value == "" and tuner.wait(60)

    def test_a_picture_leads_in_a_window(self, tuner):
        image, mask = random_scenes(256, seed=1), torch.zeros(1, 1, 256, 256, device="cpu")
        mask[..., 100:120, 100:130] = 1
        tuner.set_picture(image, mask)
        tuner.guide = Image.fromarray(to_pixels(image)).resize((128, 128))
        run = tuner.run()
        assert tuner.wait(60) and run.state == "finished" and run.led_by == "a picture" and run.sizes[-1] != (256, 256)
        changed = (run.pixels != to_pixels(image)).any(-1)
        assert changed.any() and not changed[mask[0, 0].numpy(force=True) == 0].any()

    def test_the_pictures_sent_are_as_large_as_they_are_shown(self, tuner):
        tuner.set_picture(random_scenes(1024, seed=1), stroke_masks(1024, seed=1))
        tuner.wait(60)
        viewer = tuner.controls.viewer
        assert pixels(viewer.before).shape == pixels(viewer.after).shape == (512, 512, 3)
        assert max(pixels(viewer.before_zoom).shape) <= 512

    def test_the_box_shows_the_pixels_under_it(self, tuner, scene):
        viewer = tuner.controls.viewer
        tuner.controls.zoom.value = 1 / 4
        viewer._handle_custom_msg({"box": [0.5, 0.25, 0.25, 0.25]}, [])
        assert np.array_equal(pixels(viewer.before_zoom), pixels(viewer.before)[16:32, 32:48])

    def test_it_draws_without_pyplot_and_without_a_global_setting(self, scene, tiny_single):
        before, figures = dict(plt.rcParams), plt.get_fignums()
        tuner = Tuner(*scene, tiny_single, **FAST)
        tuner.controls.run.click()
        tuner.wait(60)
        assert plt.get_fignums() == figures and dict(plt.rcParams) == before

    @pytest.mark.parametrize(
        "wrong, said",
        [
            (dict(lr=0.0), "lr is 0.0"),
            (dict(n_iters=1.5), "n_iters is 1.5"),
            (dict(erosion=-1), "erosion is -1"),
            (dict(loss="mse"), "loss is 'mse'"),
            (dict(optimizer="sgd"), "optimizer is 'sgd'"),
            (dict(smallest_scale=3), "smallest_scale is 3"),
            (dict(smallest_scale=0), "smallest_scale is 0"),
            (dict(smallest_scale="64"), "smallest_scale is '64'"),
        ],
    )
    def test_wrong_settings_are_named(self, scene, tiny_single, wrong, said):
        with pytest.raises(ValueError, match=said):
            Tuner(*scene, tiny_single, **FAST | wrong)

    def test_wrong_pictures_are_named(self, tuner, scene, tiny_single):
        image, mask = scene
        with pytest.raises(ValueError, match="mask has values between 0 and 255"):
            tuner.set_picture(image, mask * 255)
        with pytest.raises(TypeError, match="model is float32 and image is float64"):
            Tuner(image.double(), mask.double(), tiny_single)

    def test_a_picture_without_a_hole_says_so(self, tuner, scene):
        tuner.set_picture(scene[0], torch.zeros_like(scene[1]))
        tuner.controls.run.click()
        tuner.wait(60)
        assert "The mask has no hole" in tuner.controls.message.value


def test_a_process_may_end_while_a_run_goes_on():
    code = """
from refine_lib import load_network, random_scenes, stroke_masks
from refine_lib.widgets import Tuner
tuner = Tuner(random_scenes(256), stroke_masks(256), load_network(device="cpu"), smallest_scale=64, n_iters=100)
tuner.run()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and not run.stderr


def test_the_pace_is_a_line_through_two_small_runs(scene, tiny_single):
    pace = Pace(run=1.0, level=(0.5, 0.01), update=(0.25, 0.001))
    assert pace.seconds([(10, 10), (20, 10)], 4) == pytest.approx([1 + 0.5 + 1, 0.5 + 2 + 4 * (0.25 + 0.2)])
    calls = []
    pace = measure_pace(*scene, Network(tiny_single, lambda call: calls.append(time.sleep(0.02))))
    for start, slope in (pace.level, pace.update):
        assert start + slope * 64**2 > 0.02 and slope >= 0
    assert pace.run >= 0 and len(calls) < 30


def test_a_run_that_takes_long_or_does_not_fit_is_told_before_it_begins(tuner, monkeypatch):
    assert "long" not in tuner.controls.estimate.value and "memory" not in tuner.controls.estimate.value
    tuner.settings = replace(tuner.settings, n_iters=10**6)
    assert "That is long" in tuner.controls.estimate.value
    monkeypatch.setattr("refine_lib.widgets.parts.available_memory", lambda device: 10**5)
    tuner.set_picture(1 - random_scenes(64, seed=4), torch.ones(1, 1, 64, 64, device="cpu"))
    assert tuner.wait(60) and "of memory, and" in tuner.controls.estimate.value


def test_the_time_left_follows_the_work(scene, tiny_single):
    left = []

    def look(call):
        if tuner and tuner.runs:
            left.append((tuner.runs[-1].share_done, tuner.runs[-1].seconds_left))

    tuner = None
    network = Network(tiny_single, look)
    tuner = Tuner(*scene, network, **FAST | dict(n_iters=20))
    tuner.run().wait(60)
    shares = [share for share, _ in left]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] > 0.9 and tuner.runs[0].share_done == 1
    known = [seconds for _, seconds in left if seconds is not None]
    assert len(known) >= 18 and known[-1] < known[0] and tuner.runs[0].seconds_left is None


@pytest.mark.cpu("memory of the twin is the process's")
def test_fifty_runs_at_random_leave_no_thread_and_no_memory(tiny_single):
    scene = random_scenes(96, seed=4), stroke_masks(96, seed=4)
    tuner, dice = Tuner(*scene, tiny_single, **FAST), random.Random(0)
    process = psutil.Process()

    def rounds(n):
        for _ in range(n):
            tuner.controls.lr.value = dice.choice([0.001, 0.01, 0.05])
            tuner.controls.run.click()
            if dice.random() < 0.6:
                time.sleep(dice.uniform(0, 0.08))
                tuner.controls.stop.click()
            if dice.random() < 0.3:
                tuner.wait(60)

    rounds(10)  # fonts, memory pools
    tuner.wait(60)
    before = process.memory_info().rss
    rounds(50)  # some clicks come while the same run goes on, and ask for nothing new
    tuner.controls.lr.value = 0.01
    tuner.controls.run.click()
    assert tuner.wait(60)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("refine")]
    assert process.memory_info().rss - before < 50 * 2**20
    expected = multiscale_inpaint(*scene, tiny_single, progress=False, **FAST)
    last = tuner.runs[-1]
    assert 40 < last.number <= 61 and last.losses == expected.losses and torch.equal(last.result.image, expected.image)
    assert all(run.is_over and run.state in ("stopped", "finished") for run in tuner.runs)
    assert not tuner.controls.message.value


class TestPainting:
    def test_a_stroke_is_as_wide_as_the_brush_and_round(self):
        painting = Painting(40, 60)
        painting.stroke([(20, 20), (40, 20)], width=9)
        mask = painting.mask[0, 0].numpy()
        assert mask[:, 30].sum() == 9 and mask[20, 16:45].all() and not mask[20, :15].any() and not mask[20, 46:].any()
        assert mask[16, 16] == 0 and painting.mask.shape == (1, 1, 40, 60)

    def test_a_dot_a_rectangle_and_what_erases_them(self):
        painting = Painting(40, 40)
        painting.stroke([(10, 10)], width=6)
        assert 20 < painting.mask.sum() < 36
        painting.rectangle((35, 30), (20, 25))
        assert painting.mask[0, 0, 25:31, 20:36].all()
        before = painting.mask.sum()
        painting.rectangle((20, 25), (27, 30), erase=True)
        assert before - painting.mask.sum() == 8 * 6
        painting.stroke([(0, 10), (39, 10)], width=20, erase=True)
        assert not painting.mask[0, 0, :20].any()

    def test_undo_takes_every_change_back(self):
        painting, seen = Painting(20, 30), []
        changes = [("stroke", [(5, 5), (15, 9)], 4), ("rectangle", (3, 3), (9, 9)), ("invert",), ("clear",)]
        changes.append(("load", torch.ones(1, 1, 20, 30)))
        for what, *arguments in changes:
            seen.append(painting.mask)
            getattr(painting, what)(*arguments)
        assert painting.mask.shape == (1, 1, 20, 30) and painting.mask.all()
        for expected in reversed(seen):
            painting.undo()
            assert torch.equal(painting.mask, expected)
        painting.undo()  # nothing to take back
        assert not painting.mask.any()

    def test_what_is_shown_has_a_bit_a_pixel_and_at_most_1024(self):
        painting = Painting(3000, 4000)
        painting.rectangle((1000, 1000), (2999, 1999))
        png = painting.to_png()
        shown = Image.open(io.BytesIO(png))
        assert shown.size == (1024, 768) and len(png) < 4000
        thin = Painting(2400, 4096)
        thin.stroke([(100, 100), (3000, 101)], width=1)
        assert (np.asarray(Image.open(io.BytesIO(thin.to_png())).convert("RGBA"))[..., 3] > 0).sum() > 700
        alpha = np.asarray(shown.convert("RGBA"))[..., 3]
        assert abs((alpha > 0).mean() - painting.mask.mean().item()) < 0.002 and set(np.unique(alpha)) == {0, 190}


class TestMaskPainter:
    @pytest.fixture
    def painter(self, scene):
        return MaskPainter(*scene)

    def send(self, painter, *buffers, **message):
        if "points" in message:  # with what the page has drawn with
            canvas = painter.canvas
            now = dict(rectangle=canvas.rectangle, erases=canvas.erases, width=canvas.width, size=canvas.size)
            message = now | message
        painter.canvas._handle_custom_msg(message, list(buffers))

    def test_it_begins_with_the_mask_that_it_is_given(self, painter, scene):
        assert torch.equal(painter.mask, scene[1]) and repr(painter) == f"MaskPainter(64 x 64 px, {scene[1].mean():.1%} hole)"
        assert np.array_equal(pixels(painter.canvas.picture), to_pixels(scene[0]))
        assert not MaskPainter(scene[0]).mask.any()

    def test_every_control_does_what_it_says(self, painter, scene):
        controls = painter.controls
        controls.clear.click()
        assert not painter.mask.any()
        controls.width.value = 10
        self.send(painter, points=[[10, 10], [40, 10]])
        line = painter.mask
        assert line[0, 0, 10, 10:40].all() and line[0, 0, :, 25].sum() == 10
        controls.tool.value = "rectangle"
        assert painter.canvas.rectangle and not painter.canvas.erases
        self.send(painter, points=[[20, 30], [25, 31], [29, 39]])
        assert painter.mask[0, 0, 30:40, 20:30].all()
        controls.undo.click()
        assert torch.equal(painter.mask, line)
        controls.tool.value = "erase"
        self.send(painter, points=[[25, 10]])
        assert painter.mask[0, 0, 10, 25] == 0 and painter.canvas.erases
        controls.tool.value = "erase a rectangle"
        self.send(painter, points=[[0, 0], [63, 63]])
        assert not painter.mask.any()
        controls.invert.click()
        assert painter.mask.all()
        shown = np.asarray(Image.open(io.BytesIO(painter.canvas.hole)).convert("RGBA"))[..., 3]
        assert (shown > 0).all()

    def test_the_mask_can_be_set(self, painter, scene):
        painter.mask = 1 - scene[1]
        assert torch.equal(painter.mask, 1 - scene[1])
        with pytest.raises(ValueError, match="mask is 64 x 32 px"):
            painter.mask = scene[1][..., :32]

    def test_it_takes_photos_by_name_by_path_and_as_a_file_in_parts(self, painter, tmp_path):
        painter.controls.picture.value = "drawn scene 1"
        assert painter.image.shape == (1, 3, 256, 256) and not painter.mask.any()
        photo = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / "photo.png")
        painter.controls.path.value = f"{tmp_path / 'photo.png'} "
        assert np.array_equal(to_pixels(painter.image), photo)
        painter.controls.picture.value = "drawn scene 2"
        content = (tmp_path / "photo.png").read_bytes()
        parts = [content[:100], content[100:200], content[200:]]
        for part, piece in enumerate(parts):
            self.send(painter, memoryview(piece), file="photo.png", kind="photo", part=part, parts=3)
        assert np.array_equal(to_pixels(painter.image), photo) and not painter.controls.message.value

    def test_it_takes_a_mask_file(self, painter):
        file = io.BytesIO()
        half = np.zeros((64, 64), dtype=np.uint8)
        half[:32] = 200
        Image.fromarray(half).save(file, "PNG")
        self.send(painter, file.getvalue(), file="mask.png", kind="mask", part=0, parts=1)
        assert painter.mask[0, 0, :32].all() and not painter.mask[0, 0, 32:].any()

    def test_what_goes_wrong_is_told_and_changes_nothing(self, painter, scene, tmp_path):
        (tmp_path / "notes.txt").write_text("no picture")
        painter.controls.path.value = str(tmp_path / "notes.txt")
        assert "cannot be read as a picture" in painter.controls.message.value
        painter.controls.path.value = "nowhere.png"
        assert painter.controls.message.value == "photo is &#x27;nowhere.png&#x27;; expected the path of a picture"
        self.send(painter, b"no picture", file="upload.png", kind="photo", part=0, parts=1)
        said = "upload.png cannot be read as a picture: cannot identify image file &#x27;upload.png&#x27;"
        assert painter.controls.message.value == said
        assert torch.equal(painter.image, scene[0]) and torch.equal(painter.mask, scene[1])
        with pytest.raises(ValueError, match="image has a batch of 2"):
            MaskPainter(scene[0].expand(2, -1, -1, -1))

    def test_what_runs_a_program_of_the_machine_is_not_read(self, painter, scene, tmp_path):
        (tmp_path / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n")
        with pytest.raises(ValueError, match="cannot be read as a picture"):
            load_photo(tmp_path / "page.eps")
        self.send(painter, (tmp_path / "page.eps").read_bytes(), file="/etc/hostname", kind="photo", part=0, parts=1)
        assert "cannot be read" in painter.controls.message.value and torch.equal(painter.image, scene[0])

    def test_a_stroke_is_drawn_as_the_page_drew_it_and_is_answered(self, painter, monkeypatch):
        answers = []
        monkeypatch.setattr(painter.canvas, "send", answers.append)
        painter.controls.clear.click()
        painter.controls.tool.value = "rectangle"  # the page did not know yet
        self.send(painter, points=[[10, 10], [40, 40]], rectangle=False, width=3)
        assert painter.mask[0, 0, 25, 25] == 1 and painter.mask[0, 0, 12, 38] == 0
        before = painter.mask
        self.send(painter, points=[[0, 0], [9, 9]], size=[32, 32])  # of a picture that is gone
        self.send(painter, points=[[10, 10]], rectangle=False, width="wide")
        assert torch.equal(painter.mask, before) and answers == [{"painted": None}] * 3

    def test_another_picture_keeps_the_dtype(self, scene):
        painter = MaskPainter(scene[0].double())
        painter.controls.picture.value = "drawn scene 1"
        assert painter.image.dtype == painter.mask.dtype == torch.float64
        assert painter.controls.picture.value == "drawn scene 1"
        painter.controls.path.value = "nowhere.png"
        painter.load("drawn scene 2")
        assert painter.controls.picture.value == "drawn scene 2" and painter.controls.path.value == ""

    def test_it_feeds_the_tuner(self, painter, tuner):
        painter.feed(tuner)
        assert painter.controls.use.layout.display is None
        painter.controls.clear.click()
        painter.controls.use.click()
        assert "the hole is empty" in painter.controls.message.value
        self.send(painter, points=[[20, 20], [40, 40]])
        seen = []
        painter.controls.use.observe(lambda change: seen.append(change.new), "description")
        painter.controls.use.click()
        tuner.wait(60)
        assert seen[0] == "Handing over ..." and "Filling, 0% done" in seen and seen[-1] == "Fill this hole"
        (run,) = tuner.runs
        known = painter.mask[0, 0].numpy() == 0
        assert run.state == "finished" and not painter.controls.message.value
        assert np.array_equal(run.pixels[known], to_pixels(painter.image)[known])
        assert (run.pixels[~known] != to_pixels(painter.image)[~known]).any()


def test_the_pictures_after_some_updates_can_be_looked_at(tuner, scene):
    tuner.settings = replace(tuner.settings, n_iters=6)
    run = tuner.run()
    assert run.wait(60) and tuner.wait(60)
    c = tuner.controls
    assert [n for _, n in c.moment.options] == [0, 1, 2, 5, 6] == list(run.moments) and c.moment.value == 6
    assert c.strip.value.count("<figure>") == 5 and 'alt="after 1 update"' in c.strip.value
    assert np.array_equal(run.moments[6].pixels, run.pixels) and not np.array_equal(run.moments[0].pixels, run.pixels)
    c.moment.value = 0
    assert np.array_equal(pixels(c.viewer.after), run.moments[0].pixels) and c.viewer.after_name == "run 1, 0 updates"
    known = to_pixels(scene[1]) == 0
    assert np.array_equal(run.moments[0].pixels[known], to_pixels(scene[0])[known])


class TestWorkbench:
    @pytest.fixture
    def bench(self, scene, tiny_single):
        image, mask = scene
        bench = Workbench(image, mask, tiny_single, show_error=True, **FAST)
        yield bench
        bench.close()
        assert bench.is_closed and bench.painter.is_closed

    def test_what_is_painted_is_filled_with_the_settings_of_the_panel(self, bench, tiny_single):
        mask = bench.painter.mask
        mask[..., :20] = 1
        bench.painter.mask = mask
        bench.tuner.settings = replace(bench.tuner.settings, n_iters=200)  # so that it goes on at the second click
        bench.painter.controls.use.click()
        bench.painter.controls.use.click()
        assert len(bench.tuner.runs) == 1
        bench.tuner.stop()
        assert bench.tuner.wait(60)
        bench.tuner.settings = replace(bench.tuner.settings, n_iters=FAST["n_iters"])
        bench.painter.controls.use.click()
        assert bench.tuner.wait(60)
        (_, run) = bench.tuner.runs
        expected = multiscale_inpaint(bench.painter.image, bench.painter.mask, tiny_single, progress=False, **FAST)
        assert run.state == "finished" and np.array_equal(run.pixels, to_pixels(expected.image))

    def test_it_shows_all_of_the_result_and_says_what_two_runs_differ_in(self, bench):
        assert bench.tuner.controls.viewer.box == [0, 0, 1, 1]
        for n_iters in (2, 5):
            bench.tuner.settings = replace(bench.tuner.settings, n_iters=n_iters)
            bench.tuner.run()
            assert bench.tuner.wait(60)
        assert bench.tuner.controls.compared.value == ""
        bench.tuner.controls.before.value = "run 1"
        assert bench.tuner.controls.compared.value == "iterations 2 | 5"

    def test_a_cell_that_is_run_again_closes_both(self, scene, tiny_single):
        benches = [Workbench(*scene, tiny_single, **FAST) for _ in range(2)]
        assert benches[0].is_closed and benches[0].painter.is_closed and not benches[1].is_closed
        benches[1].close()

    def test_it_keeps_a_still_picture(self, bench):
        assert "image/jpeg" in bench._repr_mimebundle_() and "Workbench(MaskPainter(" in repr(bench)


def test_an_estimate_is_in_whole_seconds():
    assert [draw.about(seconds) for seconds in (0.0, 0.4, 1.7, 9.6, 12.3, 200)] == [
        "1 s",
        "1 s",
        "2 s",
        "10 s",
        "12 s",
        "3 min 20 s",
    ]
