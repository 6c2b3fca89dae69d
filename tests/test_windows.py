"""Windows where they take less work than the whole photo: which parts are computed, and that it is said."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from refine_lib import load_network
from refine_lib.fast.memory import Budget
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.photos.windows import plan_windows
from refine_lib.scenes import random_scenes
from refine_lib.scenes.strokes import stroke_masks

ROOMY = Budget(1.0, 1e12)
FAST = dict(smallest_scale=32, n_iters=1, erosion=3, progress=False)


def holes(shape, *boxes):
    """(H, W), bool: holes, each as (top, left, height, width)."""
    hole = np.zeros(shape, bool)
    for top, left, height, width in boxes:
        hole[top : top + height, left : left + width] = True
    return hole


def plan(hole, windows="auto", context=0.5, budget=ROOMY, n_iters=15):
    found, _ = plan_windows(hole, windows, context, 32, budget, n_iters)
    return [(w.top, w.bottom, w.left, w.right) for w in found]


def test_a_small_hole_is_filled_in_a_window_and_that_is_said(tiny_single):
    photo, hole = data.coffee()[:256, :320], holes((256, 320), (100, 120, 20, 20))
    done = inpaint_photo(Image.fromarray(photo), Image.fromarray(hole), None, tiny_single, **FAST)
    changed = (np.asarray(done.image) != photo).any(axis=2)
    assert done.windows == [(76, 144, 96, 164)] and changed[hole].mean() > 0.9 and not changed[~hole].any()
    assert "computed 1 window, 6% of the photo, in " in str(done)
    whole = inpaint_photo(Image.fromarray(photo), Image.fromarray(hole), None, tiny_single, windows="never", **FAST)
    assert whole.windows == [(0, 256, 0, 320)] and "1 window, 100% of the photo" in str(whole)


@pytest.mark.parametrize("side, is_whole", [(16, False), (100, False), (150, True)])
def test_the_whole_is_computed_where_windows_are_more_than_half_of_the_work(side, is_whole):
    (found,) = plan(holes((300, 300), (70, 70, side, side)))
    assert (found == (0, 300, 0, 300)) == is_whole


def test_a_window_at_the_border_has_levels_to_refine(tiny_single):
    photo = Image.fromarray(data.coffee()[:200, :300])
    for top, left in ((0, 0), (190, 290), (0, 150), (95, 290)):
        hole = holes((200, 300), (top, left, 10, 10))
        done = inpaint_photo(photo, Image.fromarray(hole), None, tiny_single, **FAST | {"erosion": 1})
        (found,) = done.windows
        assert (found[1] - found[0], found[3] - found[2]) == (58, 58) and done.message == "" and done.results[0].n_levels == 2


def test_holes_share_a_window_where_that_is_no_more_work():
    near = holes((900, 900), (400, 400, 10, 10), (400, 420, 10, 10))
    across = holes((900, 900), (400, 400, 10, 10), (452, 452, 10, 10))  # the windows overlap by a corner
    apart = holes((900, 900), (100, 100, 10, 10), (700, 700, 10, 10))
    assert plan(near) == [(376, 434, 376, 454)]
    assert plan(across) == [(376, 434, 376, 434), (428, 486, 428, 486)]
    assert len(plan(apart)) == 2
    assert len(plan(near, budget=Budget(1.0, 60 * 60))) == 2  # memory does not hold both


@pytest.mark.parametrize("n", [300, 20_000])
def test_many_specks_are_planned_in_no_time(n):
    hole = np.zeros((1500, 2000), bool)
    hole[tuple(np.random.default_rng(0).integers(0, side, n) for side in hole.shape)] = True
    found, owner = plan_windows(hole, "auto", 0.5, 32, ROOMY, 15)
    assert np.array_equal(owner > 0, hole) and (n < 1000 or len(found) == 1)


def test_a_window_fills_a_small_hole_about_as_well_as_the_whole():
    model, errors = load_network("mini-lama", "cpu"), {"auto": [], "never": []}
    for i, picture in enumerate(random_scenes(320, 8, seed=21, device="cpu")):
        truth = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        hole = np.zeros((320, 320), bool)
        hole[136:184, 136:184] = stroke_masks(48, seed=i, device="cpu")[0, 0].numpy() > 0
        for windows, found in errors.items():
            photo = Image.fromarray(truth), Image.fromarray(hole)
            done = inpaint_photo(*photo, None, model, smallest_scale=64, lr=0.005, windows=windows, progress=False)
            assert (done.windows == [(0, 320, 0, 320)]) == (windows == "never")
            found.append(np.abs(np.asarray(done.image)[hole] - truth[hole].astype(float)).mean())
    assert np.mean(errors["auto"]) < 1.1 * np.mean(errors["never"])
