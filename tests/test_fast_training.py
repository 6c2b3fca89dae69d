"""The fast training step: the same function of the same parameters as the network's own, and what is around it."""

import copy
import os

import pytest
import torch

from refine_lib.networks.lama import LamaGenerator
from refine_lib.workshop.average import MovingAverage, clip_gradients
from refine_lib.workshop.fast_training import forward_elsewhere, forward_for_training
from refine_lib.workshop.muon import orthogonalised
from refine_lib.workshop.recipes import Recipe
from refine_lib.workshop.training import Training


def network_with_norms(ngf=8, n_blocks=2, ratio=0.75, dtype=torch.float64):
    """One whose batch norms have been trained, so that no factor is 1 and no shift is 0."""
    torch.manual_seed(0)
    network = LamaGenerator(ngf, n_blocks, ratio).to(dtype, memory_format=torch.channels_last).train()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.bias, 0, 0.2)
    return network


def test_torch_still_has_the_private_name_that_the_fast_step_uses():
    assert hasattr(torch._C, "_AutoDispatchBelowAutograd"), (
        "torch._C._AutoDispatchBelowAutograd is gone. Results stay right and a step takes some percent longer: delete"
        " below_autograd in workshop/rows.py and its uses in workshop/fast_training.py"
    )


def pictures(height=64, width=64, batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(batch, 4, height, width, generator=generator, dtype=dtype)
    return x, torch.randn(batch, 3, height, width, generator=generator, dtype=dtype)


def flat_gradient(network):
    return torch.cat([p.grad.double().flatten() for p in network.parameters()])


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (64, 96), (40, 40), (144, 136)])  # the last one: Fourier transforms
@pytest.mark.parametrize("ratio", [0.75, 0.5, 0])
def test_it_is_the_network_in_train_mode(size, ratio):
    network = network_with_norms(ratio=ratio)
    fast = copy.deepcopy(network)
    x, gradient = pictures(*size)
    x_fast = x.clone().requires_grad_()
    x.requires_grad_()
    for _ in range(2):  # the second time the running statistics are not at their beginning
        wanted, found = network(x), forward_for_training(fast, x_fast, torch.float64)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    wanted.backward(gradient)
    found.backward(gradient)
    torch.testing.assert_close(x_fast.grad, x.grad, rtol=0, atol=1e-10 * x.grad.abs().max().item())
    most = 1e-10 * flat_gradient(network).abs().max().item()
    for (name, p), p_fast in zip(network.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(p_fast.grad, p.grad, rtol=0, atol=most, msg=name)
    for (name, buffer), buffer_fast in zip(network.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(buffer_fast, buffer, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("ngf, memory_format", [(12, torch.contiguous_format), (16, torch.channels_last)])
def test_float32_is_as_near_as_it_can_be(ngf, memory_format):
    network = network_with_norms(ngf, dtype=torch.float32).to(memory_format=memory_format)
    fast = copy.deepcopy(network)
    x, gradient = pictures(dtype=torch.float32)
    wanted, found = network(x), forward_for_training(fast, x, torch.float32)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    wanted.backward(gradient)
    found.backward(gradient)
    assert torch.cosine_similarity(flat_gradient(network), flat_gradient(fast), dim=0) > 0.9999


@pytest.mark.parametrize("ratio", [0.75, 0])
def test_bfloat16_leads_the_same_way(ratio):
    network = network_with_norms(16, 2, ratio, torch.float32)
    fast = copy.deepcopy(network)
    x, _ = pictures(batch=8, dtype=torch.float32)
    wanted, found = network(x), forward_for_training(fast, x, torch.bfloat16)
    assert found.dtype == torch.float32 and (found - wanted).abs().max() < 0.05
    for prediction in (wanted, found):
        (prediction - x[:, :3]).square().mean().backward()
    assert torch.cosine_similarity(flat_gradient(network), flat_gradient(fast), dim=0) > 0.99
    for buffer, buffer_fast in zip(network.buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(buffer_fast, buffer, rtol=0.02, atol=0.01)


def test_two_runs_give_the_same_bits():
    x, gradient = pictures(dtype=torch.float32)
    runs = [network_with_norms(dtype=torch.float32) for _ in range(2)]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for network in runs:
            prediction = forward_for_training(network, x, noise=0.1, generator=torch.Generator().manual_seed(2))
            prediction.backward(gradient)
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(*map(flat_gradient, runs))


def test_noise_has_the_size_of_the_featuremap():
    network = network_with_norms()
    x, _ = pictures()
    plain, same, noisy, other = (
        forward_for_training(network, x, torch.float64, noise, torch.Generator().manual_seed(seed)).detach()
        for noise, seed in ((0.0, 0), (0.0, 1), (0.1, 0), (0.1, 1))
    )
    assert torch.equal(plain, same) and not torch.equal(noisy, other)
    assert 0 < (noisy - plain).abs().mean() < 0.1


@pytest.mark.parametrize("shape", [(8, 36), (24, 24), (12, 144), (96, 288)])
@pytest.mark.parametrize("smallest", [1, 0.1, 1e-3, 1e-6])
def test_an_update_stays_bounded_in_few_bits(shape, smallest):
    n, generator = shape[0], torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(200 if n < 96 else 8, side, n, generator=generator))[0] for side in shape)
    values = torch.linspace(0, torch.tensor(smallest).log(), n).exp()
    values[0] *= 10 ** torch.rand(1, generator=generator).item()  # one direction may be far stronger than all others
    found = orthogonalised((u * values) @ v.mT)
    assert torch.linalg.svdvals(found).max() < 1.3


def test_gradients_are_clipped_together():
    network = network_with_norms(dtype=torch.float32)
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    other = copy.deepcopy(network)
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        q.grad = p.grad.clone()
    wanted = torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
    assert clip_gradients(network.parameters(), 1.0) == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(flat_gradient(network), flat_gradient(other), rtol=1e-5, atol=1e-8)
    before = flat_gradient(network)
    clip_gradients(network.parameters(), 2.0)
    assert torch.equal(flat_gradient(network), before)
    next(network.parameters()).grad[0] = float("nan")
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_gradients(network.parameters())


def test_an_average_follows_the_network():
    network = network_with_norms(ngf=4, n_blocks=1)
    average = MovingAverage(network, horizon=20)
    naive = {}
    for n in range(300):
        with torch.no_grad():
            for value in network.state_dict().values():
                value.add_(torch.randn_like(value) if value.is_floating_point() else 1)
        average.update()
        share = max(1 / 20, 10 / (n + 10))
        for key, value in network.state_dict().items():
            moving = value.is_floating_point() and n > 0
            naive[key] = naive[key] + share * (value - naive[key]) if moving else value.clone()
    for key, value in average.network.state_dict().items():
        torch.testing.assert_close(value, naive[key], rtol=1e-9, atol=1e-9, msg=key)
    assert not any(module.training for module in average.network.modules())

    again = MovingAverage(network, horizon=20)
    again.load_state_dict(average.state_dict())
    for one in (average, again):
        one.update()
    pairs = zip(average.network.state_dict().values(), again.network.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("ratio", [0.75, 0])
def test_elsewhere_it_is_the_network_as_it_is_with_noise_in_units_of_z(ratio):
    network = network_with_norms(ratio=ratio)
    x, _ = pictures()
    assert torch.equal(forward_elsewhere(network, x), network(x))
    seen = []
    hook = network.layers[network.first_block].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for noise in (0.0, 0.5):
        forward_elsewhere(network, x, noise, torch.Generator().manual_seed(0))
    hook.remove()
    flat = [torch.cat([t.flatten(1) for t in z], 1) if isinstance(z, tuple) else z.flatten(1) for z in seen]
    share = (flat[1] - flat[0]).square().mean(1).sqrt() / flat[0].square().mean(1).sqrt()
    assert torch.allclose(share, torch.full_like(share, 0.5), rtol=0.05)


@pytest.mark.usefixtures("on_the_cpu")
def test_steps_on_another_device_are_those_of_the_cpu_and_go_on_here(tmp_path):
    recipe = Recipe("patterns", ngf=4, n_blocks=1, batch=4, adversarial=0.1, matching=1.0, features=0.5)
    here, there = Training(recipe), Training(recipe, device=os.environ.get("REFINE_DEVICE") or "cpu")
    here.precision = there.precision = torch.float32
    for _ in range(3):
        here.train_step()
        there.train_step()
    for a, b in zip(here.network.parameters(), there.network.parameters(), strict=True):
        assert b.device.type == there.device.type and torch.allclose(a, b.cpu(), atol=1e-3)
    torch.save(there.state(), tmp_path / "state.ckpt")
    again = Training(recipe)
    again.go_on_from(torch.load(tmp_path / "state.ckpt", weights_only=True))
    again.train_step()
    assert again.step == 4 and all(value.isfinite() for value in again.smooth.values())
