"""The holes of the paper's Table 1."""

import numpy as np
import pytest
import torch

from refine_lib import brush_mask
from refine_lib.scenes.brushes import KINDS, UNIT, _boxes, _drawn, _strokes, seed_of

# Of 1,000 masks of each kind at 512 px by LaMa's own generator: mean, standard deviation, quartiles of the share of the hole.
MEASURED = {
    "thin": (0.288, 0.131, (0.184, 0.302, 0.403)),
    "medium": (0.276, 0.142, (0.153, 0.296, 0.399)),
    "thick": (0.266, 0.131, (0.163, 0.269, 0.373)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_holes_are_as_large_as_lamas(kind):
    shares = np.array([brush_mask(kind, 128, seed).mean().item() for seed in range(600)])
    mean, deviation, quartiles = MEASURED[kind]
    # Four standard errors of both samples together; quartiles scatter more than means, by about 1.4.
    error = 4 * deviation * (1 / 600 + 1 / 1000) ** 0.5
    assert shares.mean() == pytest.approx(mean, abs=error)
    assert shares.std() == pytest.approx(deviation, abs=error)
    assert np.quantile(shares, (0.25, 0.5, 0.75)) == pytest.approx(quartiles, abs=1.6 * error)
    assert shares.min() > 0 and shares.max() < 0.52


# The first and the last hole pixel, and how many there are, of seed 5 at 96 px by 64 px: the same on every machine.
KNOWN = {"thin": (32, 6141, 2035), "medium": (0, 5849, 1446), "thick": (0, 2756, 646)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_hole_everywhere(kind):
    mask = brush_mask(kind, (96, 64), 5)
    assert mask.shape == (1, 1, 96, 64) and mask.dtype == torch.float32 and set(mask.unique().tolist()) <= {0, 1}
    places = mask.flatten().nonzero()[:, 0]
    assert (places[0].item(), places[-1].item(), len(places)) == KNOWN[kind]
    torch.manual_seed(1), np.random.seed(1)
    assert torch.equal(mask, brush_mask(kind, (96, 64), 5)) and not torch.equal(mask, brush_mask(kind, (96, 64), 6))


@pytest.mark.parametrize("kind", KINDS)
def test_a_hole_scales_with_the_picture(kind):
    for seed in range(5):
        small, large = brush_mask(kind, 256, seed), brush_mask(kind, 512, seed)
        assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 0.02


def test_strokes_and_boxes_are_in_range():
    random = np.random.RandomState(0)
    for kind, (strokes, boxes) in KINDS.items():
        segments = [segment for _ in range(50) for segment in _strokes(strokes, (UNIT, UNIT), random)]
        widths = [width for *_, width in segments]
        assert 5 <= min(widths) and max(widths) < 5 + strokes.widest, kind
        lengths = [np.hypot(x1 - x0, y1 - y0) for (x0, y0), (x1, y1), _ in segments]
        assert max(lengths) < 10 + strokes.longest + 1
        if boxes:
            sides = np.array(
                [(r - left, b - top, left, UNIT - r, top, UNIT - b) for left, top, r, b in _boxes(boxes, (512, 512), random)]
            )
            assert sides[:, :2].min() >= boxes.side[0] and sides[:, :2].max() < boxes.side[1]
            assert sides[:, 2:].min() >= boxes.margin


def test_a_stroke_is_round_at_its_ends_and_as_wide_as_it_says():
    for width in (11, 12):  # OpenCV's lines are somewhat wider than they say
        hole = _drawn([((20, 32), (44, 32), width)], 64, 64, 1)
        assert hole[:, 32].sum() == 13 and hole[32].sum() == 25 + 12
        assert not hole[32 - 6, 20 - 6] and hole[32 - 4, 20 - 4]
    assert _drawn([(4, 8, 20, 10)], 64, 64, 1).sum() == 32


def test_the_seed_of_a_picture_is_its_own():
    assert seed_of(0, "thick", "a.png") == 2808801784
    assert len({seed_of(0, kind, name) for kind in KINDS for name in "abcdefgh"}) == 24


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        (("fat", 64, 0), ValueError, "kind is 'fat'; expected one of 'thin', 'medium', 'thick'"),
        (("thin", (0, 64), 0), ValueError, r"size is 0; expected a whole number of 1 to 65536 pixels"),
        (("thin", 64, -1), ValueError, "seed is -1; expected a whole number of 0 to 4294967295"),
        (("thin", 64, 0.5), ValueError, "seed is 0.5; expected a whole number"),
    ],
)
def test_wrong_arguments_are_named(args, error, said):
    with pytest.raises(error, match=said):
        brush_mask(*args)
