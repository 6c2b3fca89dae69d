"""The loss: what it sees, and that it is made of what Algorithm 1 says. And the optimizers that follow it."""

import pytest
import torch
from conftest import picture

from refine_lib import NothingToRefine, downscale, load_network, multiscale_inpaint, random_scenes, stroke_masks
from refine_lib.loss import Agreement, bounding_box, masked_l1
from refine_lib.optimizers import Polyak
from refine_lib.pyramid import downscale_matrix

SETTINGS = dict(smallest_scale=24, erosion=3, progress=False)


@pytest.mark.parametrize("n", [3, 4, 5, 16, 17, 40, 101])
def test_the_matrices_downscale(n):
    image = torch.rand(2, 3, n, 23, dtype=torch.float64)
    (rows, seen), (columns, all_columns) = (downscale_matrix(m, slice(0, m // 2), image) for m in (n, 23))
    assert (seen, all_columns) == (slice(0, n), slice(0, 23))
    assert (rows @ image @ columns.T - downscale(image)).abs().max() < 1e-14
    if n > 20:
        part, seen = downscale_matrix(n, slice(8, 10), image)
        assert part.shape[1] == seen.stop - seen.start <= 10
        assert torch.equal(part, rows[8:10, seen])


@pytest.mark.parametrize("size", [(64, 48), (65, 47)])
def test_agreement_is_the_masked_l1_of_the_downscaled_prediction(size):
    small = [n // 2 for n in size]
    eroded = torch.zeros(3, 1, *small, dtype=torch.float64)
    eroded[0, :, 10:20, 3:9] = eroded[2, :, 0, 0] = 1
    low_res, prediction = torch.rand(3, 3, *small).double(), torch.rand(3, 3, *size).double().requires_grad_()
    agreement = Agreement(low_res, eroded, size)
    losses, wanted = agreement(prediction), masked_l1(downscale(prediction), low_res, eroded)
    assert (losses - wanted).abs().max() < 1e-14
    gradients = [torch.autograd.grad(t.sum(), prediction)[0] for t in (losses, wanted)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-14
    assert agreement.has_target.tolist() == [True, False, True]
    assert agreement.mean(losses).item() == pytest.approx((wanted[0] + wanted[2]).item() / 2)


def test_where_nothing_is_to_agree_the_loss_is_none():
    agreement = Agreement(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), (16, 16))
    assert not agreement.possible and agreement(torch.rand(1, 3, 16, 16)).tolist() == [0] and agreement.mean(None) is None


def test_a_bounding_box_holds_the_holes_of_all_pictures():
    mask = torch.zeros(2, 1, 9, 9)
    assert bounding_box(mask) == (slice(0, 0), slice(0, 0))
    mask[0, 0, 2, 3] = mask[1, 0, 5, 1] = 1
    assert bounding_box(mask) == (slice(2, 6), slice(1, 4))


def test_a_polyak_step_brings_a_linear_loss_to_zero_whatever_its_scale():
    for scale in (1e-3, 1.0, 1e4):
        z = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64) * scale
        z.requires_grad_()
        optimizer = Polyak([z], lr=None, n_iters=4)
        slope = torch.tensor([[1.0, 2.0], [0.5, 0.0]], dtype=torch.float64) / scale
        for wanted in (0.0, 0.0):
            losses = (z * slope).sum(dim=1)
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step(losses.detach())
            assert (z * slope).sum(dim=1).abs().max() <= wanted + 1e-12


def test_polyaks_steps_shrink_and_nothing_optimizer_without_a_loss():
    z = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    optimizer, seen = Polyak([z], lr=None, n_iters=4), []
    for _ in range(4):
        z.grad, before = torch.tensor([[1.0, 0.0]], dtype=torch.float64), z.detach().clone()
        optimizer.step(torch.ones(1, dtype=torch.float64))
        seen.append((before - z.detach())[0, 0].item())
    assert seen == pytest.approx([1, 0.75, 0.5, 0.25])
    z.grad = torch.zeros_like(z)
    optimizer.step(torch.zeros(1, dtype=torch.float64))
    assert z.isfinite().all()


def test_no_polyak_step_is_longer_than_z():
    z = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    z.grad = torch.tensor([[1e-9, 0.0]], dtype=torch.float64)
    Polyak([z], lr=None, n_iters=4).step(torch.ones(1, dtype=torch.float64))
    assert z.tolist() == [[pytest.approx(-2.0), 4.0]]


def test_polyak_comes_further_than_adam_in_a_third_of_its_updates(tiny):
    image, mask = random_scenes(128, batch=4, seed=3), stroke_masks(128, batch=4, seed=3)
    settings = dict(model=load_network("mini-lama", "cpu"), smallest_scale=64, erosion=5, progress=False)
    adam = multiscale_inpaint(image, mask, **settings, n_iters=15)
    polyak = multiscale_inpaint(image, mask, **settings, n_iters=5, optimizer="polyak")
    assert len(polyak.losses[0]) == 6 and polyak.losses[0][-1] < adam.losses[0][-1]


def test_a_polyak_step_does_not_depend_on_batch_mates(tiny):
    image, mask = picture(64, 72)
    alone, both = (
        multiscale_inpaint(*pictures, tiny, n_iters=5, optimizer="polyak", **SETTINGS)
        for pictures in ((image, mask), (torch.cat([image, 1 - image]), torch.cat([mask, mask.roll(11, dims=3)])))
    )
    assert (both.image[0] - alone.image[0]).abs().max() < 1e-9


def test_polyaks_steps_are_halved_where_the_loss_rose():
    z = torch.full((2, 1), 10, dtype=torch.float64, requires_grad=True)
    unused = torch.zeros(2, 1, requires_grad=True)  # without a gradient
    optimizer = Polyak([z, unused], lr=None, n_iters=4)
    for losses, wanted in (([1.0, 1.0], [1.0, 1.0]), ([2.0, 1.0], [0.75, 0.75]), ([1.0, 1.5], [0.25, 0.375])):
        z.grad, before = torch.ones_like(z), z.detach().clone()
        optimizer.step(torch.tensor(losses, dtype=torch.float64))
        assert (before - z.detach()).flatten().tolist() == pytest.approx(wanted)


def test_a_level_ends_early_where_the_loss_no_longer_falls(tiny):
    image, mask = picture(64, 72)
    whole = multiscale_inpaint(image, mask, tiny, n_iters=12, **SETTINGS)
    early = multiscale_inpaint(image, mask, tiny, n_iters=12, early_stop=0.05, **SETTINGS)
    assert not early.stopped and len(early.levels) == early.n_levels and not early.message
    for short, long in zip(early.losses[:1], whole.losses[:1], strict=True):
        assert 3 <= len(short) < len(long) and short == pytest.approx(long[: len(short)], abs=1e-9)
        assert short[-1] > 0.95 * short[-3]
        assert all(after <= 0.95 * before for before, after in zip(short[:-3], short[2:-1], strict=True))
    risen = multiscale_inpaint(image, mask, tiny, n_iters=12, lr=0.5, early_stop=0, **SETTINGS).losses[0]
    assert len(risen) < 13 and risen[-1] > risen[-3]
    assert all(after <= before for before, after in zip(risen[:-3], risen[2:-1], strict=True))
    code = dict(SETTINGS, erosion=31, loss="code", early_stop=0.5)
    with pytest.warns(NothingToRefine):
        assert multiscale_inpaint(image, mask, tiny, n_iters=3, **code).losses[0] == []


def test_losses_are_read_only_when_somebody_asks(tiny):
    image, mask = picture(64, 72)
    seen = []
    run = dict(n_iters=4, callback=lambda step: seen.append((step, isinstance(step._loss, torch.Tensor))), **SETTINGS)
    result = multiscale_inpaint(image, mask, tiny, **run)
    assert [unread for step, unread in seen if step.level] == [True] * 5 * (result.n_levels - 1)
    assert [type(loss) for loss in result.losses[0]] == [float] * 5 and type(seen[-1][0]._loss) is float
