"""The measures, their intervals, and the table that a network is judged by."""

import subprocess
import sys

import pytest
import torch
from conftest import picture
from skimage.metrics import structural_similarity

from refine_lib import load_network, random_scenes, stroke_masks
from refine_lib.metrics import MEASURES, fraction, gain, gradient_energy, hole_l1, interval, l1, lead, seam_contrast, ssim
from refine_lib.photos.pixels import BUILT_IN
from refine_lib.workshop import model_card
from refine_lib.workshop.model_card import (
    SMALL_WAYS,
    WAYS,
    biharmonic,
    figure_of,
    main,
    measure,
    photos,
    scenes,
)


def test_the_truth_is_perfect_by_every_measure():
    truth, mask = random_scenes(64, batch=3, seed=1), stroke_masks(64, batch=3, seed=1)
    perfect = {"L1": 0.0, "SSIM": 1.0, "gradient energy": 1.0, "seam contrast": 1.0}
    for name, of in MEASURES.items():
        pairs = of(truth, truth, mask)
        assert pairs.shape == (3, 2) and pairs.dtype == torch.float64
        assert fraction(pairs).item() == pytest.approx(perfect[name])


def test_what_lies_outside_the_hole_and_its_seam_does_not_count():
    truth, mask = picture(64, 64, batch=2)
    filled = torch.rand_like(truth) * mask + truth * (1 - mask)
    far = filled.clone()
    far[..., :3, :3] = 0  # the hole and an SSIM window are farther than that
    for name, of in MEASURES.items():
        assert torch.allclose(of(filled, truth, mask)[:, 0], of(far, truth, mask)[:, 0]), name


def test_measures_on_pictures_whose_answer_is_known():
    ramp = torch.arange(16.0).expand(1, 3, 16, 16) / 16
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    assert fraction(l1(ramp + 0.25 * mask, ramp, mask)).item() == pytest.approx(0.25)
    assert hole_l1(ramp + 0.25 * mask, ramp, mask) == pytest.approx(0.25)
    half_as_steep = torch.where(mask > 0, ramp / 2, ramp)
    assert fraction(gradient_energy(half_as_steep, ramp, mask)).item() == pytest.approx(0.25)  # energy goes with the square
    # Across the left and the right edge of the hole the ramp rises by 1/16 at 8 places each; across the others it is flat.
    raised = ramp + 0.5 * mask
    steps = (8 * (1 / 16 + 0.5) + 8 * abs(1 / 16 - 0.5) + 2 * 8 * 0.5) / (16 / 16)
    assert fraction(seam_contrast(raised, ramp, mask)).item() == pytest.approx(steps)


def test_ssim_is_that_of_scikit_image():
    truth, mask = picture(48, 64)
    filled = torch.where(mask > 0, truth.flip(-1), truth)
    settings = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=0, full=True)
    _, whole = structural_similarity(filled[0].numpy(), truth[0].numpy(), **settings)
    wanted = whole[:, mask[0, 0].numpy() > 0].mean()
    assert fraction(ssim(filled, truth, mask)).item() == pytest.approx(wanted, abs=1e-4)


def test_an_interval_holds_its_value_and_narrows_with_more_pictures():
    generator = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.rand(400, generator=generator), torch.ones(400)], dim=1).double()
    value, low, high = interval(pairs)
    assert value == pytest.approx(pairs[:, 0].mean().item()) and low < value < high
    # A mean of 400 uniform numbers is off by 1/sqrt(12 * 400): 95% lie within 1.96 of that.
    assert high - low == pytest.approx(2 * 1.96 * (12 * 400) ** -0.5, rel=0.15)
    few = interval(pairs[:25])
    assert few[2] - few[1] > 2.5 * (high - low)


def test_a_paired_comparison_sees_what_two_intervals_cannot():
    generator = torch.Generator().manual_seed(0)
    error = torch.rand(40, generator=generator).double()
    worse, better = (torch.stack([scale * error, torch.ones(40).double()], dim=1) for scale in (1.0, 0.9))
    assert gain(better, worse) == pytest.approx((0.1, 0.1, 0.1))
    assert interval(better)[2] > interval(worse)[1]
    closer = lead(torch.tensor([[0.9, 1.0]] * 5), torch.tensor([[1.3, 1.0]] * 5))
    assert closer == pytest.approx((0.2, 0.2, 0.2))


def test_the_classical_fill_continues_a_ramp():
    ramp = torch.arange(24.0).expand(2, 3, 24, 24) / 24
    mask = stroke_masks(24, batch=2, seed=1)
    filled = biharmonic(ramp, mask)
    assert filled.dtype == ramp.dtype and torch.allclose(filled, ramp, atol=1e-4)


def test_every_way_to_fill_is_measured():
    model = load_network(device="cpu")
    drawn = list(scenes(3, 64, "medium", 5, "cpu", batch=2))
    assert torch.allclose(torch.cat([truth for truth, _ in drawn]), random_scenes(64, batch=3, seed=5))
    measured = measure("a table", drawn, model, keep=1, smallest_scale=32, erosion=3, n_iters=2)
    assert len(measured.kept) == 1
    for way in SMALL_WAYS + WAYS:
        for name in MEASURES:
            assert measured.of(way, name).shape == (3, 2)
    truth, mask, result = measured.kept[0]
    assert torch.equal(measured.of("refined", "L1")[:2], l1(result.image, truth, mask))
    assert torch.equal(measured.of("plain", "L1")[:2], l1(result.plain, truth, mask))
    table = str(measured)
    assert table.startswith("a table, 3 pictures")
    assert f"| refined | {interval(measured.of('refined', 'L1'))[0]:.3f} [" in table
    assert "refined: L1 below plain by" in table


def test_photos_are_measured_at_their_own_size():
    drawn = list(photos(1, "thick", 7, "cpu"))
    assert len(drawn) == len(BUILT_IN)
    assert all(photo.shape[-2:] == mask.shape[-2:] and mask.any() for photo, mask in drawn)
    assert len({photo.shape for photo, _ in drawn}) > 2


def test_a_figure_has_a_row_for_every_picture():
    model = load_network(device="cpu")
    truth, mask = random_scenes(64, batch=2, seed=1), stroke_masks(64, batch=2, seed=1)
    measured = measure("", [(truth, mask)], model, keep=1, smallest_scale=24, erosion=1, n_iters=1)
    figure = figure_of(measured.kept, model, seed=1)
    titles = [ax.get_title("left") + ax.get_title() for ax in figure.axes]
    assert len(figure.axes) == 2 * 2 * 5
    assert [title for title in titles if title] == [
        "input",
        "filled at 32 px, enlarged",
        "filled at 64 px (plain)",
        "refined",
        "truth",
    ]


@pytest.mark.parametrize(
    "wrong, what",
    [
        (["--scenes", "0"], "--scenes is 0 and --photos 0; expected"),
        (["--times", "1"], "--times is 1; expected 2 or more"),
        (["none.safetensors"], "name_or_path is 'none.safetensors'; expected"),
        (["--device", "cuda:77"], "device asks for 'cuda:77', which is not there"),
    ],
)
def test_the_command_says_what_is_wrong(wrong, what, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", *wrong])
    with pytest.raises(SystemExit):
        main()
    assert what in capsys.readouterr().err


def test_optimizers_are_compared_with_the_papers(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", "evaluate --optimizers --scenes 2 --times 2 --erosion 3 --seed 3".split())
    main()
    printed = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.split("|")] for line in printed.splitlines() if line.startswith(("| Adam", "| Polyak"))
    ]
    assert "| optimizer | loss, level 2 | L1 | SSIM |" in printed and len(rows) == 5
    losses = {row[1]: float(row[2]) for row in rows}
    assert losses["Polyak, 5 updates"] < losses["Adam, 15 updates, lr 0.002"]
    assert "- Polyak, 5 updates: L1 below Adam, 15 updates, lr 0.002 by" in printed
    assert "smallest_scale 64, erosion 3, CPU" in printed  # the paper's loss


def test_the_loss_can_be_chosen(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(model_card, "compare_optimizers", lambda *_, **settings: seen.append(settings))
    monkeypatch.setattr(sys, "argv", "evaluate --optimizers --loss code --scenes 1 --times 2".split())
    main()
    assert seen == [dict(smallest_scale=64, erosion=15, loss="code")] and "erosion 15, loss code, " in capsys.readouterr().out


def test_the_command_prints_a_table_and_writes_a_figure(tmp_path):
    command = [
        sys.executable,
        "-m",
        "refine_lib.workshop.model_card",
        "--scenes",
        "2",
        "--times",
        "2",
        "--size",
        "32",
        "--n-iters",
        "1",
    ]
    run = subprocess.run(
        [*command, "--erosion", "3", "--device", "cpu", "--figures", str(tmp_path / "new")],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "| refined | " in run.stdout and "mini-lama, seed 7, smallest_scale 32" in run.stdout
    assert (tmp_path / "new" / "effect.png").stat().st_size > 10_000
