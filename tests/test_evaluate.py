"""The evaluation: measures, rows that survive anything, methods, tables."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import structural_similarity_index_measure

from refine_lib import brush_mask, load_network, multiscale_inpaint, random_scenes
from refine_lib.evaluate import Table, evaluate, parse_method
from refine_lib.evaluate.__main__ import main
from refine_lib.evaluate.grids import _around_holes, _three_rows, _whole_pictures, write_grids
from refine_lib.evaluate.measures import (
    TABLE_1,
    choose_features,
    feature_networks,
    features_of,
    frechet_distance,
    kernel_distance,
    measures_of,
)
from refine_lib.evaluate.methods import Case, Folder, Method, Plain, forget_networks, refined_with
from refine_lib.evaluate.pictures import Picture, find_pictures, write_inputs, write_png
from refine_lib.evaluate.rows import Conditions, Rows
from refine_lib.evaluate.run import picture_path
from refine_lib.evaluate.scene_features import damaged
from refine_lib.evaluate.texts import to_csv, to_latex
from refine_lib.masks import paste
from refine_lib.photos.pixels import load_mask, load_photo, to_pixels

FAST = dict(size=128, features="scenes", progress=False)
METHODS = ("plain:mini-lama", "enlarged:mini-lama", "refined:mini-lama:n_iters=2")


# Measures


pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_the_frechet_distance_of_two_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(500, 6)), 1.5 * rng.normal(size=(400, 6)) + 0.7
    mean, covariance = [x.mean(0) for x in (a, b)], [np.cov(x.T) for x in (a, b)]
    root = np.linalg.eigvals(covariance[0] @ covariance[1]).real.clip(0) ** 0.5
    wanted = ((mean[0] - mean[1]) ** 2).sum() + np.trace(covariance[0] + covariance[1]) - 2 * root.sum()
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-8)
    diagonal = rng.normal(size=(20000, 3)) * [1.0, 2.0, 0.5], rng.normal(size=(20000, 3)) * [2.0, 2.0, 1.0] + [1.0, 0, 0]
    assert frechet_distance(*diagonal) == pytest.approx(1 + 1 + 0 + 0.25, abs=0.1)  # moved by 1; (2-1)^2, 0 and (1-0.5)^2


def test_a_set_is_at_no_distance_from_itself():
    a = np.random.default_rng(1).normal(size=(60, 5))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    mean, deviation = kernel_distance(a, a)
    assert -3 * deviation < mean < 0  # each picture is in both sets: a little below 0
    halves = kernel_distance(a[:30], a[30:])
    assert abs(halves[0]) < 3 * halves[1]


def test_the_kernel_distance_leaves_random_numbers_as_they_are():
    a, b = np.random.default_rng(2).normal(size=(2, 40, 5))
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    assert kernel_distance(a, b) == kernel_distance(a, b)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture(scope="module")
def networks():
    return feature_networks("scenes", torch.device("cpu"))


def test_a_picture_is_perfect_beside_itself(networks):
    truth, mask = random_scenes(128, seed=3), brush_mask("thick", 128, 3)
    found = measures_of(networks, truth, truth, mask)
    assert found["l1"] == 0 and found["perceptual"] == 0 and found["psnr"] == pytest.approx(58.92, abs=0.01)
    assert found["ssim"] == pytest.approx(1)
    assert found["features"].shape == (48,) and found["features"].dtype == np.float32


def test_blurred_is_better_than_moved_is_better_than_wrong(networks):
    """By the feature network; L1 and SSIM must see the wrong fill as the worst too."""
    truth = random_scenes(128, batch=12, seed=31, one_plane=1.0)
    mask = torch.cat([brush_mask("thick", 128, seed) for seed in range(12)])
    measured = {}
    for name, kind in (("blurred", 1), ("moved", 2), ("wrong", 3)):
        filled = damaged(truth, mask, torch.full((12,), kind))
        each = [measures_of(networks, *(t[i : i + 1] for t in (filled, truth, mask))) for i in range(12)]
        measured[name] = {key: np.mean([one[key] for one in each]) for key in ("l1", "ssim", "psnr", "perceptual")}
        measured[name]["frechet"] = frechet_distance(np.stack([one["features"] for one in each]), networks(truth).numpy())
    assert measured["blurred"]["l1"] < measured["moved"]["l1"] < measured["wrong"]["l1"]
    assert measured["blurred"]["psnr"] > measured["moved"]["psnr"] > measured["wrong"]["psnr"]
    assert measured["blurred"]["ssim"] > measured["wrong"]["ssim"]
    assert max(measured[name]["perceptual"] for name in ("blurred", "moved")) < measured["wrong"]["perceptual"]
    assert min(measured["blurred"]["perceptual"], measured["moved"]["perceptual"]) > 0.001


def test_ssim_is_that_of_whole_pictures_inside_the_hole(networks):
    truth, mask = random_scenes(128, seed=3), torch.zeros(1, 1, 128, 128)
    mask[..., :30, 50:70] = 1  # at an edge of the picture
    filled = paste(torch.rand_like(truth), truth, mask)
    whole = structural_similarity_index_measure(filled, truth, data_range=1.0, return_full_image=True)[1]
    wanted = whole[mask.expand_as(truth) > 0].mean().item()
    assert measures_of(networks, filled, truth, mask)["ssim"] == pytest.approx(wanted, abs=1e-6)


def test_what_lies_outside_the_hole_does_not_count_for_l1_and_psnr(networks):
    truth, mask = random_scenes(128, seed=3), torch.zeros(1, 1, 128, 128)
    mask[..., 40:80, 40:80] = 1
    filled = paste(torch.rand_like(truth), truth, mask)
    elsewhere = filled.clone()
    elsewhere[..., :20, :20] = 0
    a, b = (measures_of(networks, picture, truth, mask) for picture in (filled, elsewhere))
    assert (a["l1"], a["psnr"]) == (b["l1"], b["psnr"]) and a["ssim"] == pytest.approx(b["ssim"])
    assert a["perceptual"] != b["perceptual"]


def test_where_the_official_networks_are_missing_it_is_said():
    if choose_features("auto")[0] == "inception":
        pytest.skip("the official networks are here")
    assert choose_features("scenes") == ("scenes", "")
    chosen, why = choose_features("auto")
    assert chosen == "scenes" and why.startswith("the networks of FID and LPIPS cannot be loaded (")
    with pytest.raises(
        ModuleNotFoundError, match=r"features is 'inception', but .* cannot be loaded .*; expected .*\[fid\].* or 'scenes'"
    ):
        choose_features("inception")
    with pytest.raises(ValueError, match="features is 'vgg'; expected one of 'auto', 'inception', 'scenes'"):
        choose_features("vgg")


def test_fid_and_lpips_are_computed_by_their_own_networks():
    chosen, why = choose_features("auto")
    if chosen != "inception":
        pytest.skip(f"the official networks are not here: {why}")
    truth, mask = random_scenes(128, seed=3), brush_mask("thick", 128, 3)
    found = measures_of(feature_networks("inception", torch.device("cpu")), truth, truth, mask)
    assert found["perceptual"] == pytest.approx(0, abs=1e-6) and found["features"].shape == (2048,)


def test_the_official_networks_get_bytes_and_the_papers_conventions(monkeypatch):
    """With stand-ins for the networks themselves, which are not everywhere."""
    asked, seen = {}, []

    class Fid:
        def __init__(self, **options):
            asked["fid"] = options
            self.inception = torch.nn.Identity()
            self.inception.register_forward_hook(lambda module, args, out: seen.append(args[0]))

    class Lpips(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            asked["lpips"] = options

        def forward(self, a, b):
            return (a - b).abs().mean()

        def reset(self):
            asked["reset"] = True

    monkeypatch.setattr("torchmetrics.image.fid.FrechetInceptionDistance", Fid)
    monkeypatch.setattr("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", Lpips)
    assert choose_features("auto") == ("inception", "")
    networks = feature_networks("inception", torch.device("cpu"))
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    features_of(networks, pixels / 255)
    assert networks.distance(torch.ones(1), torch.zeros(1)) == 1 and asked.pop("reset")
    assert asked == {"fid": dict(feature=2048, antialias=False), "lpips": dict(net_type="vgg", normalize=True)}
    assert seen[0].dtype == torch.uint8 and torch.equal(seen[0], pixels)


# Pictures and methods


def test_pictures_are_cut_in_their_middle_and_made_smaller(tmp_path):
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, 20:80] = 255  # the square in the middle
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "wide one.png")
    (tmp_path / "b.JPG").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    broken, wide = find_pictures(tmp_path)
    assert (broken.name, wide.name) == ("b.JPG", "in/wide one.png")
    assert torch.equal(wide.load(30), torch.ones(1, 3, 30, 30))
    with pytest.raises(ValueError, match="in/wide one.png is 100 px wide and 60 px high; expected 64 px or more"):
        wide.load(64)
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        broken.load(30)
    assert find_pictures([tmp_path / "b.JPG", "scenes:2"], limit=2)[1] == Picture("scene-0000")
    assert [p.name for p in find_pictures(tmp_path, limit=1)] == ["b.JPG"]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("scenes:0", "images is 'scenes:0'; expected scenes: and how many"),
        ("nowhere", "images is 'nowhere', which is not there"),
        (["scenes:2", "scenes:3"], "images has 'scene-0000' twice"),
    ],
)
def test_what_is_no_picture_is_named(images, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        find_pictures(images)


def test_scenes_and_holes_do_not_depend_on_what_else_there_is():
    few, many = find_pictures("scenes:2"), find_pictures("scenes:5")
    assert few == many[:2] and torch.equal(few[1].load(32), many[1].load(32))
    assert not torch.equal(few[0].load(32), few[1].load(32))
    assert torch.equal(few[1].hole("thick", 32, 0), many[1].hole("thick", 32, 0))
    assert not torch.equal(few[1].hole("thick", 32, 0), few[1].hole("thick", 32, 1))


def case_of(kind="thick", size=128):
    picture = Picture("scene-0000")
    image, mask = picture.load(size), picture.hole(kind, size, 0)
    return Case(picture, kind, image * (1 - mask), mask), image


def test_methods_are_what_they_say():
    case, _ = case_of()
    model = load_network("mini-lama", "cpu")
    result = multiscale_inpaint(case.image, case.mask, model, smallest_scale=64, lr=0.005, n_iters=2, progress=False)
    wanted = dict(zip(METHODS, (result.plain, result.enlarged, result.image), strict=True))
    for words, picture in wanted.items():
        method = parse_method(words)
        assert method.name == words
        assert torch.allclose(method.fill(case, "cpu")[0], picture, atol=1e-5)
    own = Plain("plain:mine", model)
    assert own.name == "plain:mine" and torch.allclose(own.fill(case)[0], wanted[METHODS[0]], atol=1e-5)


@pytest.mark.parametrize("words", ["biharmonic", "telea", "navier-stokes"])
def test_classical_fills_keep_what_is_known(words):
    if words != "biharmonic":
        pytest.importorskip("cv2", reason="OpenCV is in the extra [metrics]")
    case, truth = case_of()
    method = parse_method(words)
    method.ready()
    filled, note = method.fill(case)
    assert torch.equal(filled * (1 - case.mask), case.image) and not note
    error = ((filled - truth).abs() * case.mask).sum() / (3 * case.mask.sum())
    assert error < ((case.image - truth).abs() * case.mask).sum() / (3 * case.mask.sum())


def test_results_made_elsewhere_are_a_method(tmp_path):
    pictures = find_pictures("scenes:2")
    write_inputs(pictures, ("thick",), 128, 0, tmp_path)
    for picture in pictures:  # another tool: it fills with gray
        name = picture.file_name
        image, mask = (
            to_pixels(load(tmp_path / place / name)) for place, load in (("images", load_photo), ("masks/thick", load_mask))
        )
        assert image.shape == (128, 128, 3) and set(np.unique(mask)) == {0, 255}
        filled = np.where(mask > 0, 128, 0).astype(np.uint8)
        (tmp_path / "gray" / "thick").mkdir(parents=True, exist_ok=True)
        Image.fromarray(filled).save(tmp_path / "gray" / "thick" / name)
    method = parse_method(f"folder:Gray:{tmp_path}/gray")
    assert method == Folder(f"folder:Gray:{tmp_path}/gray", "Gray", f"{tmp_path}/gray")
    case, truth = case_of()
    filled, _ = method.fill(case)
    assert torch.equal(filled, paste(torch.full_like(truth, 128 / 255), case.image, case.mask))
    with pytest.raises(ValueError, match="is 128 px wide and 128 px high; expected 64 px wide and 64 px high"):
        method.fill(case_of(size=64)[0])
    with pytest.raises(FileNotFoundError, match="is no folder"):
        parse_method("folder:Gray:/nowhere").ready()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nonsense", "method is 'nonsense'; expected plain:NETWORK"),
        ("refined:", "expected plain:NETWORK"),
        ("folder:MAT", "expected plain:NETWORK"),
        ("plain:mini-lama:n_iters=3", "with n_iters; expected no setting"),
        ("refined:mini-lama:rate=3", "with rate; expected smallest_scale, n_iters"),
        ("refined:mini-lama:n_iters", "n_iters is ''; expected a whole number"),
        ("refined:mini-lama:n_iters=-1", "n_iters is -1; expected"),
        ("refined:mini-lama:optimizer=sgd", "optimizer is 'sgd'; expected one of"),
    ],
)
def test_what_is_no_method_is_named(words, said):
    with pytest.raises(ValueError, match=said):
        parse_method(words)


def test_without_the_extra_the_networks_and_fills_can_be_had_and_the_rest_says_what_to_install():
    code = """
import sys
sys.modules |= {"pyarrow": None, "torchmetrics": None}  # which makes an import of them fail, as where they are missing
from refine_lib.evaluate.methods import biharmonic
from refine_lib.evaluate.scene_features import load_scene_features
load_scene_features()
import refine_lib.evaluate
refine_lib.evaluate.evaluate
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = "ModuleNotFoundError: the evaluation needs PyArrow and torchmetrics: pip install 'refine_lib[metrics]'"
    assert run.stderr.splitlines()[-1] == said


# Rows


def test_a_run_writes_a_row_for_each_and_the_same_call_adds_nothing(tmp_path):
    table = evaluate("scenes:2", tmp_path / "r", ["thick"], METHODS[:1], keep=1, **FAST)
    files = sorted((tmp_path / "r" / "rows").iterdir())
    assert len(files) == 2 * (1 + 1) and len(table.rows) == 4
    stamps = [path.stat().st_mtime_ns for path in files]
    again = evaluate("scenes:2", tmp_path / "r", ["thick"], METHODS[:1], keep=1, **FAST)
    assert [path.stat().st_mtime_ns for path in files] == stamps and again.rows.equals(table.rows)
    more = evaluate("scenes:3", tmp_path / "r", ["thick", "thin"], METHODS[:2], keep=1, **FAST)
    assert len(more.rows) == 3 * (1 + 2 * 2) and [path.stat().st_mtime_ns for path in files] == stamps
    fewer = evaluate("scenes:1", tmp_path / "r", ["thin"], METHODS[:1], keep=1, **FAST)
    assert {key[1] for key in fewer.values} == {METHODS[0]} and fewer.values["thin", METHODS[0], "l1"].n == 1
    first, second = find_pictures("scenes:2")
    kept = load_photo(picture_path(tmp_path / "r", METHODS[0], "thick", first))
    assert kept.shape == (1, 3, 128, 128)
    assert not picture_path(tmp_path / "r", METHODS[0], "thick", second).exists()
    for name, value in (("size", 64), ("seed", 3)):
        with pytest.raises(ValueError, match=f"{name} is {value}, and .* was begun with"):
            evaluate("scenes:2", tmp_path / "r", ["thick"], METHODS[:1], **{**FAST, name: value})
    assert again.new == 0 and more.new == 15 - 4


class Fails(Method):
    """A method that fills with black, but for one picture at first."""

    times = 100

    def fill(self, case, device):
        Fails.times -= 1
        if Fails.times >= 0 and case.picture.name.endswith("1"):
            raise RuntimeError("it\nbroke")
        return case.image, "black"


def test_a_broken_picture_and_a_broken_method_are_rows_with_their_error(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(to_pixels(random_scenes(128, seed=1))).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"\xff\xd8 no")
    fails = Fails("fails")
    table = evaluate([tmp_path / "in", "scenes:2"], tmp_path / "r", ["thick"], [fails, METHODS[0]], **FAST)
    errors = {(picture, method): error for picture, _, method, error in table.errors}
    assert set(errors) == {("bad.jpg", "truth"), ("bad.jpg", "fails"), ("bad.jpg", METHODS[0]), ("scene-0001", "fails")}
    assert errors["scene-0001", "fails"] == "RuntimeError: it broke"
    assert "ValueError" in errors["bad.jpg", METHODS[0]] and "bad.jpg" in errors["bad.jpg", METHODS[0]]
    assert {table.values["thick", name, "l1"].n for name in ("fails", METHODS[0])} == {2}  # those that both have filled
    assert "4 rows hold an error" in str(table) and "said of 2 fills: black" in str(table)
    Fails.times = 0
    again = evaluate([tmp_path / "in", "scenes:2"], tmp_path / "r", ["thick"], [fails, METHODS[0]], retry=True, **FAST)
    assert {row[0] for row in again.errors} == {"bad.jpg"} and again.values["thick", "fails", "l1"].n == 3


def test_a_row_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Rows(tmp_path).write("a key", dict(picture="a", kind="thin", method="m", error=""))
    assert list(tmp_path.iterdir()) == [] and "a key" not in Rows(tmp_path)


def test_what_has_changed_is_computed_anew_and_what_has_gone_is_not_counted(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_png(random_scenes(128, seed=ord(name)), tmp_path / "in" / f"{name}.png")
    write_inputs(find_pictures(tmp_path / "in"), ["thick"], 128, 0, tmp_path / "inputs")
    theirs = tmp_path / "inputs" / "images"
    (tmp_path / "MAT").mkdir()
    (tmp_path / "MAT" / "thick").symlink_to(theirs)  # the truth itself
    run = partial(evaluate, tmp_path / "in", tmp_path / "in" / "r", "thick", f"folder:MAT:{tmp_path}/MAT", **FAST)
    table = run()
    assert table.new == 4 and table.values["thick", table.methods[0], "l1"].value == 0
    assert np.isnan(table.values["thick", table.methods[0], "seconds"].value)
    assert run().new == 0  # what it wrote into a folder of pictures is no picture
    write_png(torch.zeros(1, 3, 128, 128), theirs / "a.png")
    worse = run()
    assert worse.new == 1 and len(worse.rows) == 4 and worse.values["thick", worse.methods[0], "l1"].value > 0.1
    write_png(random_scenes(128, seed=3), tmp_path / "in" / "b.png")
    assert run().new == 2  # the picture itself and its fill
    (tmp_path / "in" / "b.png").unlink()
    assert run().values["thick", worse.methods[0], "l1"].n == 1


def test_an_interrupted_fill_is_no_result(tmp_path, monkeypatch):
    def interrupted(image, mask, model, callback=None, **settings):
        def stop(step):
            if step.iteration == 1:
                raise KeyboardInterrupt

        return multiscale_inpaint(image, mask, model, callback=stop, **settings)

    monkeypatch.setattr("refine_lib.evaluate.methods.multiscale_inpaint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate("scenes:2", tmp_path / "r", ["thick"], [METHODS[0], METHODS[2]], **FAST)
    assert len(list((tmp_path / "r" / "rows").iterdir())) == 2  # the picture's own and the plain one


def test_what_is_not_finite_is_an_error_and_what_was_not_refined_is_said(tmp_path):
    class Nan(Method):
        def fill(self, case, device):
            return case.image / 0, ""

    small = "refined:mini-lama:smallest_scale=128"
    table = evaluate("scenes:1", tmp_path, ["thick"], [Nan("nan"), small], **FAST)
    assert table.errors == [("scene-0000", "thick", "nan", "FloatingPointError: what is filled is not finite")]
    assert "said of 1 fill: Nothing was refined" in str(table)


def test_networks_are_loaded_once_and_not_on_the_clock(tmp_path, monkeypatch):
    loaded = []

    def load(name, device, load=load_network):
        loaded.append(name)
        time.sleep(1.5)  # more than a fill takes on a busy machine
        return load("mini-lama", device)

    forget_networks()
    monkeypatch.setattr("refine_lib.evaluate.methods.load_network", load)
    methods = ["plain:one", "plain:two", "plain:three", "enlarged:one"]
    table = evaluate("scenes:2", tmp_path, ["thick"], methods, **FAST)
    forget_networks()
    assert sorted(loaded) == ["one", "three", "two"]
    assert all(value.value < 1.5 for (_, _, measure), value in table.values.items() if measure == "seconds")


RESULT = ("picture", "kind", "method", "hole_share", "l1", "psnr", "ssim", "perceptual", "features", "error")
KILLED = ["scenes:40", "--masks", "thick", "thin", "--methods", METHODS[0], METHODS[1], "--size", "128", "--features", "scenes"]


def command(output, *more):
    return [sys.executable, "-W", "ignore", "-m", "refine_lib.evaluate", *KILLED, "-o", str(output), *more]


def results_of(folder):
    return pq.read_table(folder / "rows.parquet").select(RESULT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(folder), check=True, capture_output=True)
    found = results_of(folder)
    assert len(found) == 40 * 5 and not any(found["error"].to_pylist())
    return found


def n_rows(folder):
    return len(list((folder / "rows").glob("*.parquet"))) if (folder / "rows").is_dir() else 0


def wait_for_rows(process, folder, n):
    end = time.monotonic() + 120
    while n_rows(folder) < n and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.killed
def test_a_run_killed_five_times_gives_the_table_of_an_undisturbed_one(tmp_path, undisturbed):
    moments = sorted(random.Random(1).sample(range(5, 195), 5))
    for moment in moments:
        process = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_rows(process, tmp_path, moment)
        assert process.poll() is None, "it was done before it was killed"
        process.kill()
        process.wait()
        assert moment <= n_rows(tmp_path) < 200
    subprocess.run(command(tmp_path), check=True, capture_output=True)
    assert results_of(tmp_path).equals(undisturbed)


@pytest.mark.killed
def test_workers_killed_five_times_lose_no_result(tmp_path, undisturbed):
    pytest.importorskip("distributed", reason="Dask is in the extra [cluster]")
    process = subprocess.Popen(command(tmp_path, "--workers", "2"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    killed = 0
    for moment in sorted(random.Random(2).sample(range(5, 180), 5)):
        wait_for_rows(process, tmp_path, moment)
        workers = [child for child in psutil.Process(process.pid).children(recursive=True) if _is_worker(child)]
        if workers and process.poll() is None:
            os.kill(random.Random(moment).choice(workers).pid, signal.SIGKILL)
            killed += 1
    printed, _ = process.communicate(timeout=170)
    assert process.returncode == 0, printed
    assert killed >= 4
    found = results_of(tmp_path)
    for name in RESULT:
        if found[name].type == pa.float64():  # the workers' number of threads may round otherwise
            numbers = (np.array(t[name].to_pylist(), float) for t in (found, undisturbed))
            assert np.allclose(*numbers, rtol=1e-4, atol=1e-6, equal_nan=True), name
        elif name == "features":
            assert np.allclose(
                *(np.asarray(t[name].combine_chunks().flatten()) for t in (found, undisturbed)), rtol=1e-3, atol=1e-4
            )
        else:
            assert found[name].equals(undisturbed[name]), name


class Kills(Method):
    """A method that takes its worker with it at one picture."""

    def fill(self, case, device):
        if case.picture.name.endswith("1"):
            os._exit(1)
        return case.image, ""


@pytest.mark.killed
def test_where_workers_stay_away_all_are_started_anew(tmp_path, monkeypatch):
    cluster = pytest.importorskip("refine_lib.evaluate.cluster", reason="Dask is in the extra [cluster]")
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 3)
    clusters = []

    @contextmanager
    def local_cluster(workers, local_cluster=cluster.local_cluster):
        with local_cluster(workers) as made:
            clusters.append(made)
            if len(clusters) == 1:
                made.scale(0)  # as if none of them could be started
            yield made

    monkeypatch.setattr(cluster, "local_cluster", local_cluster)
    table = evaluate("scenes:2", tmp_path, ["thick"], METHODS[:1], workers=1, **FAST)
    assert len(clusters) == 2 and table.new == 4 and not table.errors


@pytest.mark.killed
def test_the_workers_of_a_scheduler_give_the_same_rows(tmp_path):
    cluster = pytest.importorskip("refine_lib.evaluate.cluster", reason="Dask is in the extra [cluster]")
    here = evaluate("scenes:3", tmp_path / "here", ["thick"], METHODS[:2], **FAST)
    with cluster.local_cluster(1) as workers:
        address = workers.scheduler_address
        there = evaluate("scenes:3", tmp_path / "there", ["thick"], METHODS[:2], scheduler=address, **FAST)
    assert there.new == here.new == 9 and not there.errors
    for key, value in here.values.items():
        assert key[2] == "seconds" or there.values[key].value == pytest.approx(value.value, rel=1e-3, abs=1e-4), key


@pytest.mark.killed
def test_a_picture_that_kills_its_workers_is_a_row(tmp_path):
    pytest.importorskip("distributed", reason="Dask is in the extra [cluster]")
    table = evaluate("scenes:3", tmp_path, ["thick"], [Kills("kills")], workers=1, **FAST)
    assert [row[0] for row in table.errors] == ["scene-0001"] and "KilledWorker" in table.errors[0][3]
    assert table.values["thick", "kills", "l1"].n == 2 and "KilledWorker" in str(table)


def test_each_worker_takes_its_part_of_the_cores_and_a_gpu_of_its_own():
    cluster = pytest.importorskip("refine_lib.evaluate.cluster", reason="Dask is in the extra [cluster]")
    parts = [cluster.part_of_machine(worker, 3, n_gpus=2) for worker in range(3)]
    assert [gpu for _, gpu in parts] == [0, 1, 0] and sum(threads for threads, _ in parts) <= max(3, cluster.CPU_COUNT)
    assert cluster.part_of_machine(1, 2, n_gpus=0)[1] is None


def test_workers_that_cannot_be_had_are_named():
    with pytest.raises(ValueError, match="device is 'cuda:1'; expected 'cuda' or 'cpu'"):
        evaluate("scenes:1", "nowhere", ["thick"], METHODS[:1], workers=2, device="cuda:1")
    with pytest.raises(ValueError, match="expected one: a scheduler has its own workers"):
        evaluate("scenes:1", "nowhere", ["thick"], METHODS[:1], workers=2, scheduler="tcp://127.0.0.1:1")


def _is_worker(process):
    try:
        return "spawn_main" in " ".join(process.cmdline()) and process.num_threads() > 1
    except psutil.Error:
        return False


# Tables


def rows_like(kind, method, l1, features, **more):
    names = (f"picture {i}" for i in range(len(l1)))
    same = dict(kind=kind, method=method, error="", made_with="a machine", seconds=2.0, measure_seconds=0.1, other_seconds=0.02)
    numbers = dict(psnr=20.0, ssim=0.5, perceptual=0.1, hole_share=0.25)
    return [same | numbers | dict(picture=n, l1=v, features=f) | more for n, v, f in zip(names, l1, features, strict=True)]


@pytest.fixture
def table(tmp_path):
    rng, rows = np.random.default_rng(0), Rows(tmp_path / "rows")
    plain, refined, features = rng.uniform(0.1, 0.2, 30), None, rng.normal(size=(30, 4)).astype(np.float32)
    refined = plain - 0.02 + rng.normal(scale=0.001, size=30)
    made = rows_like("", "truth", plain, features) + rows_like("thick", "plain:big-lama", plain, features + 1)
    made += rows_like("thick", "refined:big-lama", refined, features) + rows_like("thick", "folder:MAT:x", plain, features)
    made[35]["error"] = "broke"
    keys = [str(i) for i in range(len(made))]
    for key, row in zip(keys, made, strict=True):
        rows.write(key, row)
    methods = ["plain:big-lama", "refined:big-lama", "folder:MAT:x"]
    return Table(rows.read(keys), Conditions(512, 3, "inception"), methods, ["thick"])


def test_a_table_holds_what_its_rows_say(table):
    value = table.values["thick", "plain:big-lama", "l1"]
    assert value.n == 29 and value.low < value.value < value.high and value.high - value.low < 0.03
    assert table.values["thick", "refined:big-lama", "frechet"].value == pytest.approx(0, abs=1e-4)
    assert table.values["thick", "plain:big-lama", "frechet"].value == pytest.approx(4, rel=1e-3)
    difference = table.difference("thick", "refined:big-lama", "plain:big-lama", "l1")
    assert (
        difference.value == pytest.approx(-0.02, abs=0.001) and difference.high - difference.low < 0.002
    )  # paired: the rest cancels
    assert list(table.compared()) == [("refined:big-lama", "plain:big-lama"), ("folder:MAT:x", "plain:big-lama")]


def test_each_measure_is_written_as_it_is_registered(table):
    heads = str(table).split("### Thick holes")[1].split("| method | ")[1].splitlines()[0].removesuffix(" |").split(" | ")
    assert heads == [measure.title for measure in TABLE_1.values()] and len(set(heads)) == len(heads)
    assert "higher is better: PSNR (dB), SSIM; of all other measures lower is better" in str(table)
    for name, measure in TABLE_1.items():
        number = f"{table.values['thick', 'refined:big-lama', name].value:.{measure.digits}f}"
        assert f"| {number} " in next(line for line in str(table).splitlines() if line.startswith("| refined") and "[" in line)


def test_a_folder_from_before_a_measure_was_added_goes_on_without_its_number(tmp_path):
    features, rows = np.eye(4, dtype=np.float32), Rows(tmp_path)
    for i, kind, method in ((0, "", "truth"), (4, "thick", "a"), (8, "thick", "b")):
        for j, row in enumerate(rows_like(kind, method, [0.1, 0.2, 0.3, 0.4], features, ssim=None)):
            rows.write(str(i + j), row)
    table = Table(rows.read(map(str, range(12))), Conditions(512, 3, "scenes"), ["a", "b"], ["thick"])
    assert np.isnan(table.values["thick", "a", "ssim"].value) and table.values["thick", "a", "l1"].value == pytest.approx(0.25)
    assert "PSNR (dB) +0.00 [+0.00, +0.00], SSIM -" in str(table)


def test_a_table_as_markdown_latex_and_csv(table, tmp_path):
    written = [path.name for path in table.write(tmp_path)]
    assert written == ["table.md", "table.tex", "table.csv", "rows.parquet"]
    markdown = (tmp_path / "table.md").read_text()
    assert markdown.startswith("| method | thick: FID | thick: LPIPS | s (thick) |\n|")
    assert "| the paper's Big-LaMa + refinement | 26.401 | 0.135 | 4.56 |" in markdown
    assert "| the paper's MAT | 38.120 | 0.157 | 0.56 |" in markdown
    assert "29 pictures, holes of 25% on average" in markdown and "fewer than 2000 pictures" in markdown
    assert "measures 12.0 s (5.0% of that)" in markdown
    latex = (tmp_path / "table.tex").read_text()
    assert latex.startswith("\\begin{tabular}{lrrr}\n\\toprule\nmethod & thick: FID & thick: LPIPS & s (thick) \\\\\n")
    assert "25\\%" not in latex and latex.count("\\\\") == 7
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert len(lines) == 3 * 7 and {line["pictures"] for line in lines} == {"29"}
    l1 = next(line for line in lines if line["method"] == "plain:big-lama" and line["measure"] == "l1")
    assert float(l1["value"]) == table.values["thick", "plain:big-lama", "l1"].value
    assert len(pq.read_table(tmp_path / "rows.parquet")) == 120


def test_the_substitute_is_never_called_fid_or_lpips(table):
    table = Table(table.rows, Conditions(512, 3, "scenes"), table.methods, table.kinds)
    numbers, _, notes = str(table).partition("### Notes")
    ours, _, theirs = numbers.partition("### What the paper has")
    theirs, _, rest = theirs.partition("### Thick holes")
    assert "| the paper's Big-LaMa | 29.022 |" in theirs
    for text in (ours, rest, to_latex(table).partition("%")[0], to_csv(table)):
        assert not any(name in text for name in ("FID", "LPIPS", "KID", "29.022")) and "Fréchet (scenes)" in text
    assert "neither FID nor KID nor LPIPS" in notes


def test_the_command_prints_and_writes_its_tables_and_grids(tmp_path, capsys):
    words = ["scenes:2", "-o", str(tmp_path / "r"), "--masks", "thick", "--size", "128", "--features", "scenes"]
    methods = ["--methods", METHODS[0], METHODS[2]]
    main(words + methods)
    printed = capsys.readouterr().out
    assert printed.startswith("| method | thick: Fréchet (scenes) |")
    names = {"rows", "pictures", "settings.json", "table.md", "table.tex", "table.csv", "rows.parquet"}
    grids = {"methods_thick.png", "refined_thick.png"}
    assert {path.name for path in (tmp_path / "r").iterdir()} == names | grids
    assert json.loads((tmp_path / "r" / "settings.json").read_text()) == {"size": 128, "seed": 0, "features": "scenes"}
    main([*words, "--inputs", str(tmp_path / "inputs")])
    assert len(list((tmp_path / "inputs").rglob("*.png"))) == 4
    with pytest.raises(SystemExit):
        main([*words, "--inputs", str(tmp_path / "inputs"), "--seed", "1"])
    assert "seed is 1, and" in capsys.readouterr().err


def test_a_picture_of_all_methods_tells_each_error_in_the_hole():
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 8:24] = 1
    truth = torch.full((2, 3, 32, 32), 0.5)
    by = torch.tensor([0.25, 0.125]).view(2, 1, 1, 1)
    shown = {"input": truth, "plain:mini-lama": truth + by * mask, "truth": truth}
    figure = _whole_pictures(shown, mask, "")
    titles = [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center") if ax.get_title(loc)]
    plt.close(figure)
    assert titles == ["input", "plain\nmini-lama\n0.250", "truth", "0.125"]


def test_the_enlarged_rows_gain_the_most_the_median_and_the_least():
    gains, names = [0.2, -0.1, 0.5, 0.3, 0.0], list("abcde")
    rows = _three_rows(gains, names)
    assert rows == {2: "c\nlargest gain", 0: "a\nmedian gain", 1: "b\nsmallest gain"}
    assert list(_three_rows(gains[:2], names)) == [0, 1] and list(_three_rows([0.1], names)) == [0]
    mask = torch.zeros(5, 1, 32, 32)
    mask[..., 8:24] = 1
    truth = torch.full((5, 3, 32, 32), 0.5)
    figure = _around_holes({"input": truth, "plain": truth + 0.25 * mask, "truth": truth}, mask, rows, "a caption")
    titles = [ax.get_title("left") for ax in figure.axes]
    plt.close(figure)
    assert titles[3:6] == ["a\nmedian gain", "plain\nerror 0.250", "truth"] and len(titles) == 9


def test_a_dollar_in_a_caption_begins_no_formula_with_any_kind_of_hole(tmp_path, monkeypatch):
    """It is escaped once: with the first kind as with those after it, and at the place where a long name is cut."""
    drawn = []
    monkeypatch.setattr("refine_lib.evaluate.grids.write_caption", lambda figure, caption: drawn.append(caption))
    methods = ["plain:mini-lama", "refined:mini-lama:n_iters=1"]
    table = evaluate("scenes:1", tmp_path, masks=["medium", "thick"], methods=methods, **FAST)
    write_grids(tmp_path, table, find_pictures("scenes:1"), "of $5 and $6")
    assert len(drawn) == 4 and all(caption.endswith(r"of \$5 and \$6") for caption in drawn)
    name = "a" + "$" + "b" * 23
    assert _three_rows([0.1], [name])[0].startswith(r"\$" + "b" * 23)


def test_refined_methods_tell_their_settings():
    assert refined_with(["plain:mini-lama", "biharmonic"]) == ""
    one = refined_with(["plain:mini-lama", "refined:mini-lama", "refined:mini-conv"])
    assert one == "refined with smallest_scale 64, lr 0.005, n_iters 15, erosion 15"
    two = refined_with(["refined:mini-lama", "refined:mini-conv:lr=0.05"])
    assert two.startswith("refined:mini-lama with smallest_scale 64, lr 0.005, ")
    assert "; refined:mini-conv:lr=0.05 with smallest_scale 64, lr 0.05, " in two


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["nowhere"], "images is 'nowhere', which is not there"),
        (["scenes:1", "--methods", "fill"], "method is 'fill'; expected"),
        (["scenes:1", "--size", "3"], "size is 3; expected 16 or more"),
        (["scenes:1", "--methods", METHODS[0], METHODS[0]], "expected one or more, each once"),
        (["scenes:1", "--masks", "thin", "thin"], "masks are ['thin', 'thin']; expected some of"),
    ],
)
def test_the_command_names_what_is_wrong(tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit):
        main([*wrong, "-o", str(tmp_path / "r"), "--features", "scenes"])
    assert said in capsys.readouterr().err and not (tmp_path / "r").exists()
