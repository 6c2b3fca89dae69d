"""What a refinement costs, and the way to the authors' code beside it."""

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refine_lib import LamaGenerator, erode
from refine_lib.fast.products import product_of_onednn
from refine_lib.workshop import benchmark, costs
from refine_lib.workshop.baseline import Baseline, _Absent
from refine_lib.workshop.benchmark_plots import plot_memory, plot_speed
from refine_lib.workshop.growth import Growth
from refine_lib.workshop.rows import below_autograd
from refine_lib.workshop.work import Machine, Work

# Stands for a checkout: its own modules by their names, a package that is not installed, CUDA by number, what they return.
REFINEMENT = """
import torch
import package_that_nobody_has as cv2
from tqdm import tqdm
from saicinpainting.training.modules.ffc import FFCResNetGenerator

def refine_predict(batch, inpainter, gpu_ids, modulo, n_iters, lr, min_side, max_scales, px_budget):
    device = torch.device("cuda:0")
    image, mask = batch["image"].to(device), batch["mask"].to(device)
    assert image.shape[-1] % modulo == 0 and isinstance(inpainter.generator, FFCResNetGenerator)
    for _ in (bar := tqdm(range(n_iters))):
        bar.set_description("...")
    height, width = (side[0].item() for side in batch["unpad_to_size"])
    assert px_budget == height * width
    return inpainter.generator.model(torch.cat([image * (1 - mask), mask], dim=1))[..., :height, :width]
"""
FFC = """
from refine_lib import LamaGenerator

class FFCResNetGenerator(LamaGenerator):
    def __init__(self, n_in, n_out, ngf, n_halvings, n_blocks, *, init_conv_kwargs, downsample_conv_kwargs, resnet_conv_kwargs, add_out_act):
        assert (n_in, n_out, n_halvings, add_out_act) == (4, 3, 3, "sigmoid")
        super().__init__(ngf, n_blocks, resnet_conv_kwargs["ratio_gin"])
"""  # noqa: E501


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name, text in {"evaluation/refinement.py": REFINEMENT, "training/modules/ffc.py": FFC}.items():
        path = tmp_path / "lama" / "saicinpainting" / name
        path.parent.mkdir(parents=True)
        (path.parent / "__init__.py").write_text("raise RuntimeError('imports all of the training')")
        path.write_text(text)
    monkeypatch.setattr("refine_lib.workshop.baseline.NOT_NEEDED", ("package_that_nobody_has",))
    return tmp_path / "lama"


def test_a_checkout_is_run_with_our_weights_on_our_device(checkout):
    torch.manual_seed(0)
    generator = LamaGenerator(ngf=4, n_blocks=1).eval()
    image, mask = torch.rand(1, 3, 33, 50), torch.zeros(1, 1, 33, 50)
    before = dict(sys.modules)
    with torch.no_grad():
        found = Baseline(checkout, generator)(image, mask)
        wanted = generator(torch.nn.functional.pad(torch.cat([image, mask], dim=1), (0, 6, 0, 7), mode="reflect"))
    assert torch.equal(found, wanted[..., :33, :50])
    left = {name for name in sys.modules.keys() - before.keys() if "package" in name}
    assert not left


def test_what_is_no_checkout_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkout of advimman/lama, with saicinpainting/evaluation"):
        Baseline(tmp_path, LamaGenerator(ngf=4, n_blocks=1))


@pytest.mark.parametrize("size", [5, 15])
def test_the_round_kernel_is_the_one_of_the_erosion(size):
    kernel = _Absent("cv2").getStructuringElement(2, (size, size))
    hole = torch.ones(1, 1, 2 * size + 1, 2 * size + 1)
    hole[..., size, size] = 0
    eroded = erode(hole, size)[0, 0].numpy()
    assert kernel.shape == (size, size) and kernel[size // 2].all() and not kernel[0, 0]
    margin = size // 2 + 1
    assert np.array_equal(kernel, 1 - eroded[margin : margin + size, margin : margin + size])


def test_a_row_tells_seconds_memory_and_their_parts(checkout, monkeypatch, tmp_path):
    peaks = {costs.OURS: 10 << 20, costs.EXACT: 30 << 20, costs.MIXED: 12 << 20, costs.THEIRS: 40 << 20}
    monkeypatch.setattr(costs, "peak_of", lambda who, *_: peaks[who])
    machine = Machine(1e12, 1e10)
    row = costs.measure("mini-lama", 128, 3, 1, "cpu", checkout, mixed=True, machine=machine)
    assert row.n_levels == 2 and list(row.parts) == ["front", "rear", "gradient", "loss and rest"]
    assert all(seconds > 0 for seconds in row.parts.values())
    assert sum(row.parts.values()) == pytest.approx(row.seconds[costs.OURS])
    assert row.ratios == [row.seconds[costs.OURS] / row.seconds[costs.THEIRS], 0.25]
    assert row.differences["refine_lib"] < 2e-3 < row.differences["authors"] <= 1  # the checkout here does not refine
    assert abs(row.losses["refine_lib"] / row.losses["exact"] - 1) < 1e-3
    assert abs(row.losses["mixed"] / row.losses["exact"] - 1) < 0.04
    assert row.floor == max(row.flops / 1e12, row.traffic / 1e10)
    found, model = costs.contestants("mini-lama", 128, 3, "cpu")
    with Work() as work:
        found[costs.OURS](costs.sped_up(model)[0], "exact")
    assert (row.flops, row.traffic) == (work.flops, work.traffic)
    cells = row.cells()
    assert cells["MB"] == "10" and cells["authors' MB"] == "40" and cells["MB, ratio"] == "0.25" and all(cells.values())
    alone = costs.measure("mini-lama", 128, 1, 1, "cpu", checkout, only=[costs.OURS], warm_ups=0, machine=machine)
    assert list(alone.seconds) == ["refine_lib"] and alone.cells()["s, ratio"] == "" and alone.runs == 1
    grown = Growth(128, memory_by_updates=[(n, peaks) for n in (1, 3)])
    axes = [*plot_speed([row, alone]), *plot_memory([row, alone], grown)]
    assert [len(ax.lines) for ax in axes] == [6, 0, 4, 4]
    stored = tmp_path / "speed.json"
    stored.write_text(json.dumps({"growth": asdict(grown), "rows": [asdict(row), asdict(alone)]}))
    subprocess.run([sys.executable, "-m", "refine_lib.workshop.benchmark_plots", stored, tmp_path], check=True)
    assert (tmp_path / "speed.png").stat().st_size > 10_000 and (tmp_path / "memory.png").stat().st_size > 10_000


def test_operations_and_bytes_are_counted():
    x, w = torch.rand(2, 3, 16, 12), torch.rand(5, 3, 3, 3)
    with Work() as work:
        torch.conv2d(x, w).relu()
    assert work.flops == 2 * (2 * 5 * 14 * 10) * 3 * 9
    assert work.traffic == x.nbytes + w.nbytes + 4 * 2 * 5 * 14 * 10
    with Work() as work:
        torch.fft.irfft2(torch.fft.rfft2(x), s=(16, 12))
    assert work.flops == 2 * round(2.5 * 192 * np.log2(192) * 6)


def test_operations_are_counted_whatever_way_they_are_done():
    x, w, rows, weight = torch.rand(1, 3, 16, 12), torch.rand(5, 3, 3, 3), torch.rand(20, 6), torch.rand(7, 6)
    ways = {
        "convolution": [lambda: torch.conv2d(x, w), lambda: torch.mkldnn_convolution(x, w, None, (0, 0), (1, 1), (1, 1), 1)],
        "transposed": [lambda: torch.conv_transpose2d(torch.rand(1, 5, 16, 12), w)],
        "product": [lambda: rows @ weight.T, lambda: torch.zeros(20, 7).addmm_(rows, weight.T), lambda: F.linear(rows, weight)],
    }
    ways["product"] += [lambda: torch.bmm(rows[None], weight.T[None])]
    multiply = product_of_onednn()
    if multiply is not None:
        ways["product"].append(lambda: multiply(rows, weight, None, "none", [], ""))
    wanted = {"convolution": 2 * 5 * 14 * 10 * 3 * 9, "transposed": 2 * 5 * 16 * 12 * 3 * 9, "product": 2 * 20 * 6 * 7}
    for guard in (contextlib.nullcontext, below_autograd):  # below it torch does not take calls apart
        for kind, calls in ways.items():
            for call in calls:
                with torch.no_grad(), Work() as work, guard():
                    call()
                assert work.flops == wanted[kind] and work.traffic > 0


def test_the_line_of_points():
    assert benchmark.line_of([1, 2, 4], [3, 5, 9]) == pytest.approx((1, 2, 0), abs=1e-9)
    start, slope, off = benchmark.line_of([1, 2, 4], [3, 5, 18])
    assert off == pytest.approx(max(abs((start + slope * x) / y - 1) for x, y in ((1, 3), (2, 5), (4, 18)))) and off > 0.1


def test_the_command_prints_a_table_and_writes_its_numbers(tmp_path, monkeypatch, capsys):
    command = f"benchmark --sizes 128 --n-iters 1 --runs 1 --only-ours-from 128 --json {tmp_path}/a.json --figures {tmp_path}"
    monkeypatch.setattr(sys, "argv", command.split())
    benchmark.main()
    printed = capsys.readouterr().out
    assert printed.startswith("| px | levels | s | MB |") and "GFLOP/s in float32, in a product or a convolution" in printed
    assert "mini-lama, 1 updates a level, seed 1, median of 1 run, " in printed
    numbers = json.loads((tmp_path / "a.json").read_text())
    (row,) = numbers["rows"]
    grown = numbers["growth"]
    assert [n for n, _ in grown["seconds_by_threads"]] == [1, 2] and [n for n, _ in grown["seconds_by_batch"]] == [1, 4]
    assert [n for n, _ in grown["memory_by_updates"]] == [1] and grown["imports"]["refine_lib"] > 0
    assert "a batch of 4:" in printed and "- import refine_lib: " in printed
    assert row["size"] == 128 and 1e6 < row["peak_memory"]["refine_lib"] < 1e9
    assert (tmp_path / "speed.png").is_file() and (tmp_path / "memory.png").is_file()
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "which is there already; expected a new name" in capsys.readouterr().err


def test_what_fails_at_a_large_size_leaves_the_rows_before(tmp_path, monkeypatch, capsys):
    def measure(name, size, *more, measure=costs.measure):
        if size > 128:
            raise RuntimeError("out of memory")
        return measure(name, size, *more)

    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(costs, "peak_of", lambda *_: 10 << 20)
    command = f"benchmark --sizes 128 256 --n-iters 1 --only-ours-from 128 --json {tmp_path}/a.json"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "out of memory" in capsys.readouterr().err
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert [row["size"] for row in numbers["rows"]] == [128]


def test_only_those_who_are_named_run_and_nothing_grows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(costs, "peak_of", lambda *_: 10 << 20)
    command = "benchmark --sizes 128 --n-iters 1 --runs 1 --warm-ups 0 --only refine_lib exact --device cpu"
    monkeypatch.setattr(sys, "argv", command.split())
    benchmark.main()
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.startswith("| 128 |")]
    cells = dict(zip(printed.splitlines()[0].split("|"), row.split("|"), strict=True))
    assert cells[" exact s "].strip() and not cells[" polyak s "].strip() and "by updates" not in printed
    monkeypatch.setattr(sys, "argv", [*command.split(), "--figures", str(tmp_path)])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--figures needs all who run; --only was given" in capsys.readouterr().err
