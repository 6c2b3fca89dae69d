"""The loop: its properties, what it reports, how it is stopped."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_lib import NothingToRefine, multiscale_inpaint, predict_and_refine
from refine_lib.pyramid import downscale

FAST = dict(smallest_scale=16, n_iters=2, erosion=3, progress=False)


@given(st.integers(16, 75), st.integers(16, 75), st.sampled_from(["paper", "code"]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_pixels_outside_the_hole_are_the_inputs_bit_for_bit(tiny, tiny_single, height, width, loss, single):
    image, mask = picture(height, width)
    if single:
        image, mask, model = image.float(), mask.float(), tiny_single
    else:
        model = tiny
    result = multiscale_inpaint(image, mask, model, loss=loss, **FAST)
    known = (mask == 0).expand_as(image)
    for filled in (result.image, result.plain, result.enlarged):
        assert filled.shape == image.shape and filled.dtype == image.dtype and filled.isfinite().all()
        assert torch.equal(filled[known], image[known])
        assert not torch.equal(filled, image)


@given(st.integers(0, 2**16), st.sampled_from(["paper", "code"]))
@settings(deadline=None, max_examples=10)
def test_a_picture_does_not_depend_on_its_batch_mates(tiny, seed, loss):
    image, mask = picture(40, 52, batch=3, seed=seed)
    mask[1, :, :, 8:] = 0
    mask[1, :, 10:12, 10:12] = 1  # erodes to nothing: this one has nothing to match
    mask[2, :, :, 30:] = 0
    options = FAST | {"loss": loss, "lr": 0.01}
    together = multiscale_inpaint(image, mask, tiny, **options)
    for i in range(3):
        alone = multiscale_inpaint(image[i : i + 1], mask[i : i + 1], tiny, **options)
        assert torch.allclose(together.image[i : i + 1], alone.image, atol=1e-9)


def test_float32_is_close_to_float64(tiny, tiny_single):
    image, mask = picture(64, 64)
    exact = multiscale_inpaint(image, mask, tiny, **FAST)
    single = multiscale_inpaint(image.float(), mask.float(), tiny_single, **FAST)
    assert (exact.image - single.image).abs().max() < 1e-4
    assert torch.tensor(exact.losses).sub(torch.tensor(single.losses)).abs().max() < 1e-5


def test_refinement_lowers_the_loss_and_agrees_with_the_level_below(tiny):
    image, mask = picture(64, 64)
    result = multiscale_inpaint(image, mask, tiny, **FAST | {"n_iters": 10, "lr": 0.01})
    small, large = result.levels[-2:]
    plain = torch.where(mask > 0, tiny(large.image, large.mask), image)
    inside = small.mask.bool().expand_as(small.image)
    apart = [(downscale(filled) - small.inpainted)[inside].abs().mean() for filled in (plain, large.inpainted)]
    assert apart[1] < apart[0]
    assert all(losses[-1] < losses[0] for losses in result.losses)


def test_the_steps_are_the_callbacks_and_the_losses(tiny):
    seen, pictures = [], []

    def callback(step):
        seen.append(step)
        pictures.append(step.picture())

    result = multiscale_inpaint(*picture(64, 80), tiny, callback=callback, **FAST)
    assert seen == result.steps
    assert [(s.level, s.iteration) for s in seen] == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert [len(losses) for losses in result.losses] == [3, 3]
    assert result.losses[1] == [s.loss for s in seen if s.level == 2]
    assert [tuple(p.shape[-2:]) for p in pictures] == [(16, 20)] + [(32, 40)] * 3 + [(64, 80)] * 3
    assert torch.equal(pictures[-1], result.image) and torch.equal(pictures[0], result.levels[0].inpainted)
    assert all(s.seconds > 0 and s.peak_memory > 0 for s in seen)
    assert str(seen[0]).startswith("level 1 of 3, iteration 0 of 0: plain pass (")
    assert str(seen[-1]).startswith(f"level 3 of 3, iteration 2 of 2: loss {seen[-1].loss:.4f} (")
    assert result.message == "" and not result.stopped
    with pytest.raises(RuntimeError, match="picture is gone"):
        seen[-1].picture()


def test_no_updates_gives_the_first_prediction_of_each_level(tiny):
    image, mask = picture(64, 64)
    result = multiscale_inpaint(image, mask, tiny, **FAST | {"n_iters": 0})
    assert torch.equal(result.image, result.plain)
    assert [len(losses) for losses in result.losses] == [1, 1]


@pytest.mark.parametrize(("level", "iteration"), [(0, 0), (1, 1), (2, 0), (2, 2)])
def test_a_callback_can_stop_the_run_and_keeps_the_picture(tiny, level, iteration):
    image, mask = picture(64, 64)
    pictures = []

    def callback(step):
        pictures.append(step.picture())
        return (step.level, step.iteration) != (level, iteration)

    result = multiscale_inpaint(image, mask, tiny, callback=callback, **FAST)
    assert result.stopped and result.image.shape == image.shape
    assert (result.steps[-1].level, result.steps[-1].iteration) == (level, iteration)
    assert result.message.startswith(f"Stopped at level {level + 1} of 3")
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])
    enlarged = torch.nn.functional.interpolate(pictures[-1], (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(result.image[~known], enlarged[~known])


def test_the_keyboard_stops_the_run_and_keeps_the_picture(tiny):
    class Impatient(torch.nn.Module):
        calls = 0

        def front(self, *args):
            return tiny.front(*args)

        def rear(self, z):
            self.calls += 1
            if self.calls == 6:  # the first is the check before the work, the second the plain pass
                raise KeyboardInterrupt
            return tiny.rear(z)

        def forward(self, image, mask):
            return self.rear(self.front(image, mask))

    image, mask = picture(64, 64)
    result = multiscale_inpaint(image, mask, Impatient(), **FAST)
    assert result.stopped and len(result.steps) == 4
    assert result.image.shape == image.shape and not torch.equal(result.image, image)


def test_a_callback_that_returns_neither_true_nor_false_is_named(tiny):
    for answer in (torch.ones(2), np.zeros(3)):
        with pytest.raises(TypeError, match="callback returned a .*, which is neither true nor false; expected None, True or"):
            multiscale_inpaint(*picture(64, 64), tiny, callback=lambda step, answer=answer: answer, **FAST)


def test_a_result_can_be_pickled_and_copied(tiny):
    image, mask = picture(64, 64)
    result = multiscale_inpaint(image, mask, tiny, **FAST)
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert torch.equal(other.image, result.image) and other.losses == result.losses
        assert torch.equal(other.plain, result.plain) and torch.equal(other.enlarged, result.enlarged)


def test_a_callback_that_returns_nothing_or_true_does_not_stop(tiny):
    for callback in (lambda step: None, lambda step: True, [].append):
        assert not multiscale_inpaint(*picture(32, 32), tiny, callback=callback, **FAST).stopped
    assert multiscale_inpaint(*picture(32, 32), tiny, callback=lambda step: torch.tensor(False), **FAST).stopped


def test_a_level_that_was_finished_when_the_run_stopped_is_kept(tiny):
    def stop_at(level, iteration):
        return lambda step: (step.level, step.iteration) != (level, iteration)

    counts = [
        len(multiscale_inpaint(*picture(64, 64), tiny, callback=stop_at(*at), **FAST).levels)
        for at in [(0, 0), (1, 0), (1, 2), (2, 1), (2, 2)]
    ]
    assert counts == [1, 1, 2, 2, 3]
    levels = multiscale_inpaint(*picture(32, 32), tiny, **FAST).levels
    assert repr(levels) == "[InpaintedLevel(16 x 16 px, 39.1% hole), InpaintedLevel(32 x 32 px, 25.0% hole)]"


def test_inputs_with_a_gradient_of_their_own_are_left_alone(tiny):
    image, mask = picture(64, 64)
    wanted = multiscale_inpaint(image, mask, tiny, loss="code", **FAST)
    image.requires_grad_()
    result = multiscale_inpaint(image, mask, tiny, loss="code", **FAST)
    assert torch.equal(result.image, wanted.image) and not result.image.requires_grad and image.grad is None


def test_a_network_of_the_users_own_may_have_one_tensor_as_z(tiny):
    class Whole(torch.nn.Module):
        def front(self, image, mask):
            return torch.cat([image * (1 - mask), mask], dim=1)

        def rear(self, z):
            return tiny.layers(z)

        def forward(self, image, mask):
            return self.rear(self.front(image, mask))

    result = multiscale_inpaint(*picture(64, 64), Whole(), **FAST)
    assert all(losses[-1] < losses[0] for losses in result.losses)


def test_a_thin_hole_has_nothing_to_match(tiny):
    image, mask = picture(64, 64)
    mask[..., :28, :] = mask[..., 33:, :] = 0
    with pytest.warns(NothingToRefine, match="eroded by 15 px, the hole is empty. A smaller erosion"):
        result = multiscale_inpaint(image, mask, tiny, **FAST | {"erosion": 15})
    assert result.losses == [[], []]
    assert [s.loss for s in result.steps] == [None] * 3
    assert "nothing to match" in str(result.steps[-1]) and "nothing to match" in str(result)
    assert "nan" not in str(result) + str(result.steps)
    assert torch.equal(result.image, result.plain)
    with pytest.warns(NothingToRefine, match="Nothing but the known pixels was matched at level 2, 3 of 3"):
        result = multiscale_inpaint(image, mask, tiny, **FAST | {"erosion": 15, "loss": "code"})
    assert result.losses == [[], []]


def test_one_level_says_why_and_what_would_change_it(tiny):
    with pytest.warns(
        NothingToRefine, match="short side, 40 px, is not much larger than smallest_scale, 32 px.*smaller smallest_scale"
    ):
        result = multiscale_inpaint(*picture(40, 60), tiny, **FAST | {"smallest_scale": 32})
    assert result.losses == [] and result.n_levels == 1
    assert torch.equal(result.image, result.plain)


def test_no_hole_gives_the_input_back(tiny):
    image, mask = picture(64, 64)
    with pytest.warns(NothingToRefine, match="no hole"):
        result = multiscale_inpaint(image, torch.zeros_like(mask), tiny, **FAST)
    assert torch.equal(result.image, image) and result.image is not image
    assert result.losses == [] and result.steps == []


def test_all_hole_is_filled(tiny):
    image, mask = picture(32, 32)
    for loss in ("paper", "code"):
        result = multiscale_inpaint(image, torch.ones_like(mask), tiny, loss=loss, **FAST)
        assert result.image.isfinite().all() and len(result.losses[0]) == 3


def test_the_inputs_and_the_network_are_left_as_they_were(tiny):
    image, mask = picture(32, 32)
    before = [t.clone() for t in (image, mask, *tiny.state_dict().values())]
    multiscale_inpaint(image, mask, tiny, **FAST)
    assert all(torch.equal(a, b) for a, b in zip(before, (image, mask, *tiny.state_dict().values()), strict=True))
    assert all(p.grad is None for p in tiny.parameters())


def test_it_works_where_gradients_are_off(tiny):
    image, mask = picture(32, 32)
    wanted = multiscale_inpaint(image, mask, tiny, **FAST)
    with torch.no_grad():
        assert torch.equal(multiscale_inpaint(image, mask, tiny, **FAST).image, wanted.image)


def test_a_rate_beyond_all_measure_is_named(tiny_single):
    image, mask = picture(32, 32, dtype=torch.float32)
    with pytest.raises(FloatingPointError, match="lr is 3e.37: with Adam, try a smaller one"):
        multiscale_inpaint(image, mask, tiny_single, **FAST | {"lr": 3e37})


def test_predict_and_refine_alone(tiny):
    image, mask = picture(48, 48)
    steps = []
    low_res = torch.rand(1, 3, 24, 24, dtype=torch.float64)
    refined = predict_and_refine(image, mask, low_res, tiny, n_iters=3, erosion=0, lr=0.01, callback=steps.append)
    assert [s.iteration for s in steps] == [0, 1, 2, 3]
    assert steps[-1].loss < steps[0].loss and refined.shape == image.shape
