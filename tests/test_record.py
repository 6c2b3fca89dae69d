"""Cuts by name: any network, whatever its forward does."""

import copy
import cProfile
import sys
import threading
import weakref
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import picture
from formula import fill_by_formula
from torch import nn

from refine_lib import LamaGenerator, multiscale_inpaint, split_network
from refine_lib.networks.featuremap import as_leaves
from refine_lib.networks.layers import trace
from refine_lib.networks.split import NamedSplitNetwork


def convolution(n_in, n_out, stride=1):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Skip connections, layers that work in place, and a branch on the picture's size."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.down3 = convolution(4, 8), convolution(8, 12, 2), convolution(12, 16, 2)
        self.middle = convolution(16, 16)
        self.up2, self.up1, self.head = convolution(28, 12), convolution(20, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(a)
        y = self.middle(self.down3(b))
        y = self.up2(torch.cat([F.interpolate(y, size=b.shape[-2:]), b], dim=1))
        if y.shape[-2:] != a.shape[-2:]:
            y = F.interpolate(y, size=a.shape[-2:], mode="bilinear")
        return torch.sigmoid(self.head(self.up1(torch.cat([y, a], dim=1))))


def lively(network):
    """An untrained network whose pictures are not plain gray."""
    for weights in network.parameters():
        weights.data *= 2
    return network.double()


@pytest.fixture
def unet():
    return lively(UNet())


def test_a_cut_before_any_layer_leaves_the_network_as_it_is(unet):
    image, mask = picture(33, 50, batch=2)
    wanted = unet(torch.cat([image * (1 - mask), mask], dim=1))
    for name, _ in list(unet.named_modules())[1:]:
        model = split_network(unet, at=name)
        assert torch.equal(model.rear(model.front(image, mask)), wanted), name
        assert torch.equal(model(image, mask), wanted)


def test_whatever_crosses_the_cut_is_in_z(unet):
    seen = {}
    for name in ("down1", "down2", "down3"):
        unet.get_submodule(name).register_forward_hook(lambda layer, args, output, name=name: seen.update({name: output}))
    model = split_network(unet, at="middle")
    z = model.front(*picture(32, 40))
    assert [tuple(t.shape) for t in z] == [(1, 16, 8, 10), (1, 12, 16, 20), (1, 8, 32, 40)]
    assert all(torch.equal(t, seen[name]) for t, name in zip(z, ("down3", "down2", "down1"), strict=True))
    assert z.record.sources == ("down3.1", "down2.1", "down1.1")


def test_several_names_make_one_cut(unet):
    z = split_network(unet, at=["middle", "down2"]).front(*picture(32, 40))
    assert [tuple(t.shape) for t in z] == [(1, 8, 32, 40)]  # what is behind down2 holds all that is behind middle


def test_a_cut_inside_a_layer_that_works_in_place_takes_what_was_there_before(unet):
    model = split_network(unet, at="middle.1")
    z = model.front(*picture(32, 40))
    assert z[0].min() < 0  # not yet through the ReLU
    before = [t.clone() for t in z]
    leaves, again = as_leaves(z)
    model.rear(again).sum().backward()
    assert all(leaf.grad.any() for leaf in leaves)
    assert all(torch.equal(t, b) for t, b in zip((*z, *leaves), before * 2, strict=True))


def test_the_gradient_is_the_networks_own(unet):
    image, mask = picture(32, 40)
    x = torch.cat([image * (1 - mask), mask], dim=1).requires_grad_()
    (wanted,) = torch.autograd.grad(unet(x).square().sum(), x)
    model = split_network(unet, at="down1")
    (leaf,), z = as_leaves(model.front(image, mask))
    (found,) = torch.autograd.grad(model.rear(z).square().sum(), leaf)
    assert torch.equal(found, wanted)


def test_all_tensors_of_a_cut_are_optimized_together(unet):
    image, mask = picture(64, 52)
    settings = dict(smallest_scale=30, n_iters=6, lr=0.01, erosion=3, progress=False)
    model = split_network(unet, at="middle")
    first, last = [], []

    class Seen:
        """The model, and what z was at first and at last."""

        __call__ = model.__call__

        def front(self, image, mask):
            first[:] = model.front(image, mask)
            return model.front(image, mask)

        def rear(self, z):
            last[:] = z
            return model.rear(z)

    result = multiscale_inpaint(image, mask, Seen(), **settings)
    assert result.losses[-1][-1] < 0.8 * result.losses[-1][0]
    known = mask.expand_as(image) == 0
    assert torch.equal(result.image[known], image[known])
    assert len(first) == 3 and all((a - b).abs().max() > 0.01 for a, b in zip(first, last, strict=True))


def test_a_lama_cut_by_name_is_refined_as_one_cut_between_layers():
    network = fill_by_formula(LamaGenerator(ngf=4, n_blocks=2))
    image, mask = picture(64, 50)
    settings = dict(smallest_scale=32, n_iters=4, erosion=3, progress=False, speed="exact")
    by_name = NamedSplitNetwork(network, ("model.5",), 0.0, (0.0, 1.0), 8)
    between = multiscale_inpaint(image, mask, split_network(network), **settings)
    named = multiscale_inpaint(image, mask, by_name, **settings)
    assert named.losses == between.losses
    assert torch.equal(named.image, between.image)
    within = split_network(network, at="model.5.conv2")
    assert isinstance(within, NamedSplitNetwork) and len(within.front(image, mask)) == 4  # the residual pair goes around


class Net(nn.Module):
    """A network for one trick of ``behind``: a convolution, then the trick, then another."""

    def __init__(self, trick):
        super().__init__()
        self.first, self.second, self.unused = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1), nn.Identity()
        self.register_buffer("count", torch.zeros(1))
        self.trick = trick

    def forward(self, x):
        return torch.sigmoid(self.second(self.trick(self, self.first(x))))


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x * 4).round() / 4

    @staticmethod
    def backward(ctx, gradient):
        return 7 * gradient


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return x + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


def positions(net, y):
    """Tensors made on the way, one of them filled piece by piece."""
    ramp = torch.zeros(y.shape[-1], dtype=y.dtype, device=y.device)
    ramp[: y.shape[-1] // 2] = 1
    ramp += torch.linspace(0, 1, y.shape[-1], dtype=y.dtype, device=y.device)
    board = torch.zeros_like(y)
    board[..., ::2, :] = y[..., ::2, :]
    return board + y * ramp


def where_bright(net, y):
    return torch.where(y > 0.1, y, 0.5 * y)


def without_gradient(net, y):
    with torch.no_grad():
        known = y.square()
    return y + known


def in_half_precision(net, y):
    with torch.autocast("cpu", torch.bfloat16):
        return net.second(y.float()).double().repeat(1, 2, 1, 1)


def with_inference_mode(net, y):
    with torch.inference_mode():
        ramp = torch.linspace(0, 1, y.shape[-1], dtype=y.dtype, device=y.device)
    return y * ramp.clone()


def in_place_after_use(net, y):
    """Changed in place behind the cut, through a view, and used again; then changed by what comes from before the cut."""
    before, y = y.square(), y * 1
    first = y.exp()
    y.flatten(2).mul_(first.flatten(2)).clamp_(max=2)
    y += before
    return y + first


def from_a_table(net, y):
    table = torch.zeros(1200, dtype=y.dtype, device=y.device)
    for i in range(1200):
        table[i] = i / 1200
    return y + table[: y.shape[-1]]


def with_the_same_noise(net, y):
    noise = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0), device="cpu")
    return y + noise.to(y.device)


TRICKS = {
    "a region without gradients": without_gradient,
    "a region in inference mode": with_inference_mode,
    "a table": from_a_table,
    "noise of a seed": with_the_same_noise,
    "a result that is its input": lambda net, y: y + F.dropout(y, training=False).contiguous().double(),
    "positions": positions,
    "changes in place": in_place_after_use,
    "booleans": where_bright,
    "a layer used twice": lambda net, y: net.first(torch.cat([net.second(y), y[:, :1]], dim=1)),
    "normalized weights": lambda net, y: F.conv2d(y, F.normalize(net.second.weight.repeat(2, 1, 1, 1), dim=0), padding=1),
    "a complex spectrum": lambda net, y: torch.fft.irfft2(torch.fft.rfft2(y) * 1.1, s=y.shape[-2:]),
    "several results": lambda net, y: torch.std_mean(y, dim=1, keepdim=True)[0] + torch.topk(y, 2, dim=1).values[:, :1] + y,
    "a loop on the size": lambda net, y: sum(torch.roll(y, i, -1) for i in range(y.shape[-1] // 16)),
    "one path without a gradient": lambda net, y: y + y.detach().square(),
}


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("at", ["second", "first"])
def test_what_a_forward_may_do(name, at):
    network = lively(Net(TRICKS[name]))
    image, mask = picture(33, 50)
    model = split_network(network, at=at)
    z = model.front(image, mask)
    assert torch.equal(model.rear(z), network(torch.cat([image * (1 - mask), mask], dim=1)))
    leaves, z = as_leaves(z)
    model.rear(z).square().sum().backward()
    assert all(leaf.grad.any() for leaf in leaves)
    first = model.rear(z)
    assert torch.equal(first, model.rear(z))  # nothing is left over from the run before


def test_a_layer_that_does_nothing_marks_a_place_to_cut():
    network = lively(Net(lambda net, y: net.unused(y).relu()))
    image, mask = picture(33, 50)
    model = split_network(network, at="unused")
    (z,) = model.front(image, mask)
    assert z.min() < 0 and torch.equal(model.rear(model.front(image, mask)), model(image, mask))


def test_a_region_in_half_precision_is_one_behind_the_cut():
    network = lively(Net(in_half_precision)).float()
    network.trick = lambda net, y: in_half_precision(net, y).float()
    image, mask = picture(33, 50, dtype=torch.float32)
    model = split_network(network, at="second")
    assert torch.equal(model.rear(model.front(image, mask)), model(image, mask))


def test_a_tensor_crosses_once():
    network = lively(Net(lambda net, y: net.unused(y) + F.dropout(y, training=False).contiguous().double()))
    assert len(split_network(network, at="unused").front(*picture(33, 50))) == 1


def test_the_picture_and_the_mask_are_no_featuremaps():
    class Pastes(Net):
        def forward(self, x):
            image, mask = x[:, :3], x[:, 3:]
            return super().forward(x) * mask + image * (1 - mask)

    z = split_network(lively(Pastes(lambda net, y: y)), at="second").front(*picture(33, 50))
    assert [tuple(t.shape) for t in z] == [(1, 6, 33, 50)]
    assert sorted(t.shape[1] for t in z.record.fixed.values()) == [1, 3]
    z = split_network(lively(Pastes(lambda net, y: y)), at="first").front(*picture(33, 50))
    assert sorted(t.shape[1] for t in z) == [1, 3, 4]  # before all weights there is nothing else to move


def test_a_front_may_look_at_the_picture():
    def brightens(net, y):
        y = 1.5 * y + y.max().item() if y.mean() > 0.1 else y
        return y * y.std().item()

    network = lively(Net(brightens))
    model = split_network(network, at="second")
    for seed in range(3):
        image, mask = picture(33, 50, seed=seed)
        assert torch.equal(model.rear(model.front(image, mask)), model(image, mask))


def test_another_threads_pass_is_not_followed(unet):
    model = split_network(unet, at="middle")
    image, mask = picture(64, 64)
    wanted = [tuple(t.shape) for t in model.front(image, mask)]
    over = threading.Event()

    def other():
        while not over.is_set():
            model(image, mask)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(10):
            z = model.front(image, mask)
            assert [tuple(t.shape) for t in z] == wanted and len(z.record.calls) < 20
    finally:
        over.set()
        thread.join()


def test_two_threads_record_at_once():
    network = lively(Net(lambda net, y: StraightThrough.apply(net.unused(y)) + y))
    model = split_network(network, at="unused")
    pictures = [picture(64, 64, seed=seed) for seed in range(4)]
    wanted, found = [model(*one) for one in pictures], {}

    def many_times(i):
        zs = [model.front(*pictures[i]) for _ in range(10)]
        found[i] = all(len(z.record.calls) == len(zs[0].record.calls) for z in zs), model.rear(zs[-1])

    threads = [threading.Thread(target=many_times, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[i][0] and torch.equal(found[i][1], wanted[i]) for i in range(4))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def profile(frame, event, argument):
    """A profile function, as a user may have set it."""


def test_a_recording_leaves_the_process_as_it_was():
    def fails(module, args):
        raise ArithmeticError("from within")

    network = lively(Net(lambda net, y: StraightThrough.apply(net.unused(y)) + y))
    model, apply = split_network(network, at="unused"), torch.autograd.Function.__dict__["apply"]
    hook = network.second.register_forward_pre_hook(fails)
    try:
        for earlier in (None, profile):
            sys.setprofile(earlier)
            with pytest.raises(ValueError, match="from within"):
                model.front(*picture(32, 32))
            hook.remove()
            model.front(*picture(32, 32))
            assert sys.getprofile() is earlier and torch.autograd.Function.__dict__["apply"] is apply
            hook = network.second.register_forward_pre_hook(fails)
    finally:
        sys.setprofile(None)
    hook.remove()
    with cProfile.Profile() as profiler:
        model.front(*picture(32, 32))
        profiled = sys.getprofile()
        assert profiled is None or profiled is profiler  # newer Pythons do not say that it is on


def test_what_is_no_longer_used_is_let_go(unet):
    """In a pass without gradients no more is held than what is still to be used."""
    model = split_network(unet, at="middle")
    z = model.front(*picture(64, 64))
    held = []
    for call in z.record.calls:
        function = call.function

        def counted(*args, function=function, **kwargs):
            given = function(*args, **kwargs)
            held.append(weakref.ref(given))
            return given

        call.function = counted
    with torch.no_grad():
        model.rear(z)
        assert sum(ref() is not None for ref in held) == 0
        z.record.calls[-1].function = lambda *args, **kwargs: held.append(sum(r() is not None for r in held)) or args[0]
        del held[:]
        z.record.run(z)
    assert held[-1] <= 2


def test_a_layer_marks_a_place_by_keyword_as_well():
    network = lively(Net(lambda net, y: net.unused(input=y)))
    assert torch.equal(split_network(network, at="unused").front(*picture(33, 50))[0], network.first(*inputs(33, 50)))


def inputs(height, width):
    image, mask = picture(height, width)
    return (torch.cat([image * (1 - mask), mask], dim=1),)


def test_a_list_is_cut_before_a_layer_that_works_in_place():
    layers = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 3, 3, padding=1))
    model = split_network(lively(layers), at=1)
    (z,) = model.front(*picture(33, 50))
    before = z.clone()
    leaves, again = as_leaves((z,))
    model.rear(again).sum().backward()
    assert leaves[0].grad.any() and torch.equal(leaves[0], before)


def test_names_are_those_of_the_network():
    inner = nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 1))
    network = lively(nn.Sequential(OrderedDict([("model", inner), ("1", nn.Conv2d(6, 3, 1))])))
    assert isinstance(split_network(network, at="model.1"), NamedSplitNetwork)
    shared = lively(Net(lambda net, y: net.again(torch.cat([net.second(y), y[:, :1]], dim=1))))
    shared.again = shared.first
    assert split_network(shared, at="again").front(*picture(33, 50))[0].shape[1] == 4


@pytest.mark.cpu("the twin has no fused LSTM")
def test_layers_that_give_more_than_tensors_are_traced():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.LSTM(4, 3, batch_first=True)

        def forward(self, x):
            return self.rows(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(len(x), 3, *x.shape[-2:])

    model = split_network(nn.Sequential(nn.Conv2d(4, 4, 1), Rows(), nn.Conv2d(3, 3, 1)), at="1.rows")
    layers = trace(model, *picture(16, 16, dtype=torch.float32))
    assert [layer.name for layer in layers] == ["0", "1.rows", "2"] and len(layers[1].shapes) == 3


def through_a_view(net, y):
    a, b = y.chunk(2, dim=1)
    b.add_(net.second(net.unused(y)).mean(dim=1, keepdim=True))
    return y


def through_a_view_of_what_was_changed(net, y):
    y = y * 1
    a, b = y.chunk(2, dim=1)
    y.add_(1)
    b.add_(net.second(net.unused(y)).mean(dim=1, keepdim=True))
    return y


def hooked(net, y):
    y = net.unused(y) * 1
    if y.requires_grad:
        y.register_hook(lambda gradient: 10 * gradient)
    return y


@torch.jit.ignore
def doubled(x):
    return torch.vmap(lambda row: row * row.sum())(x[0])[None]


@pytest.mark.parametrize(
    ("trick", "at", "words"),
    [
        (through_a_view, "unused", "uses a tensor from before the cut whose memory was changed in place behind it"),
        (through_a_view_of_what_was_changed, "unused", "uses a tensor from before the cut whose memory was changed in place"),
        (hooked, "unused", "another gradient than the whole one"),
        (
            lambda net, y: y + doubled(net.unused(y)),
            "unused",
            "another gradient than the whole one|is not seen to depend on it",
        ),
        (
            lambda net, y: y + float(np.asarray(net.unused(y).detach()).mean()),
            "unused",
            r"reads a value .*\(__array__|\(numpy|can't convert",
        ),
        (lambda net, y: y if 0.0 in net.unused(y) else y + 0, "unused", r"reads a value .*\(__contains__"),
    ],
)
def test_what_cannot_be_followed_is_refused(trick, at, words):
    with pytest.raises(ValueError, match=words):
        split_network(lively(Net(trick)), at=at)


@pytest.mark.cpu("TorchScript holds no tensors of a subclass")
def test_a_script_is_named_where_it_is_in_the_way_and_leaves_no_hooks():
    with pytest.warns(DeprecationWarning):
        script = torch.jit.trace(nn.Conv2d(4, 6, 3, padding=1).double(), torch.rand(1, 4, 33, 50).double())
    network = Net(lambda net, y: y)
    network.first = script
    with pytest.raises(ValueError, match="the cut before second is none: no featuremap crosses it"):
        split_network(network.double(), at="second")
    assert not any(module._forward_hooks for module in network.modules())


def test_an_error_within_the_network_is_told_and_leaves_no_hooks(unet):
    def fails(module, args):
        raise ArithmeticError("from within")

    model = split_network(unet, at="middle")
    hook = unet.up1.register_forward_pre_hook(fails)
    with pytest.raises(ValueError, match="from within"):
        model.front(*picture(32, 32))
    hook.remove()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


def test_what_is_not_a_floating_number_is_carried_over_as_it_is():
    class Masked(Net):
        def forward(self, x):
            hole = x[:, 3:] > 0.5
            return torch.where(hole, torch.sigmoid(self.second(self.first(x))), 0.25)

    model = split_network(lively(Masked(None)), at="second")
    z = model.front(*picture(33, 50))
    assert [tuple(t.shape) for t in z] == [(1, 6, 33, 50)]
    assert [t.dtype for t in z.record.fixed.values()] == [torch.bool]


def test_a_gradient_of_its_own_is_kept():
    network = lively(Net(lambda net, y: StraightThrough.apply(net.second(y)).repeat(1, 2, 1, 1)))
    x = torch.rand(1, 4, 33, 50, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(network(x).sum(), x)
    apply = torch.autograd.Function.__dict__["apply"]
    model = split_network(network, at="first")
    z = model.front(x[:, :3].detach(), torch.zeros(1, 1, 33, 50).double())
    assert torch.autograd.Function.__dict__["apply"] is apply
    followed = model.front(*picture(33, 50)).record
    assert any(call.function.__qualname__ == "Function.apply" for call in followed.calls)
    (leaf,), z = as_leaves(z)
    with torch.no_grad():
        leaf.copy_(x)
    (found,) = torch.autograd.grad(model.rear(z).sum(), leaf)
    assert torch.equal(found, wanted)


class Doubled(torch.autograd.Function):
    """Doubles a tensor in place."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Nested(torch.autograd.Function):
    """Has another Function within, and a module's functions."""

    @staticmethod
    def forward(ctx, x, scale=1.0):
        return StraightThrough.apply(x) * scale

    @staticmethod
    def backward(ctx, gradient):
        return 3 * gradient, None


class Rows(torch.autograd.Function):
    """Gives a view, and a second result."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x), x.square()

    @staticmethod
    def backward(ctx, first, second):
        return 5 * first + second


class Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        raise ArithmeticError("not for this")


def refused_once(net, y):
    try:
        return Refusing.apply(y)
    except ArithmeticError:
        return StraightThrough.apply(y)


def without_gradients(net, y):
    with torch.no_grad():
        known = StraightThrough.apply(y)
    return y * known


alias = StraightThrough.apply


@pytest.mark.parametrize(
    "function",
    [
        lambda net, y: alias(y),
        lambda net, y: Doubled.apply(y * 1),
        lambda net, y: Nested.apply(y, 0.5),
        lambda net, y: sum(Rows.apply(y)),
        refused_once,
        without_gradients,
    ],
    ids=["by another name", "in place", "nested", "with two results", "after an error", "without gradients"],
)
def test_a_function_with_a_gradient_of_its_own_is_one_call(function):
    network = lively(Net(lambda net, y: function(net, net.unused(y) * 1)))
    model = split_network(network, at="unused")
    (image, mask) = picture(33, 50)
    y = network.first(torch.cat([image * (1 - mask), mask], dim=1)).detach().requires_grad_()
    wanted = torch.sigmoid(network.second(function(network, y * 1)))
    leaves, z = as_leaves(model.front(image, mask))
    found = model.rear(z)
    assert torch.equal(found, wanted)
    gradients = (torch.autograd.grad(picture.square().sum(), t)[0] for picture, t in ((found, leaves[0]), (wanted, y)))
    assert torch.equal(*gradients)
    assert sum(call.function.__qualname__ == "Function.apply" for call in z.record.calls) == 1


def test_attention_can_be_cut():
    network = lively(
        nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), Attention(), nn.Upsample(scale_factor=2), nn.Conv2d(6, 3, 3, 1, 1))
    )
    image, mask = picture(32, 40)
    model = split_network(network, at="1.attention", multiple=2)
    assert len(model.front(image, mask)) == 2  # the tokens, and what goes around the attention
    assert torch.allclose(model.rear(model.front(image, mask)), model(image, mask), atol=1e-12)  # torch has two ways for it


def counts(net, y):
    net.count += 1
    return y


def keeps(net, y):
    net.kept = getattr(net, "kept", 0) + 0.05
    return y + net.kept


def through_numpy(net, y):
    return y + torch.from_numpy(y.detach().cpu().numpy()).mean()


@pytest.mark.parametrize(
    ("trick", "at", "words"),
    [
        (counts, "second", "has side effects: .* changes a tensor that outlives the pass"),
        (keeps, "second", "has side effects: it gives another picture when it is run again"),
        (lambda net, y: y + 0.1 * torch.randn_like(y), "first", "has side effects: .* does it draw noise"),
        (lambda net, y: y if y.sum().item() > 0 else -y, "first", r"layer forward reads a value out of a tensor .*\(item\)"),
        (lambda net, y: y * 2 if (y > 0).any() else y, "first", r"reads a value out of a tensor behind the cut \(__bool__\)"),
        (through_numpy, "first", r"reads a value out of a tensor behind the cut \(numpy\)"),
        (lambda net, y: y, "unused", "the cut before unused is none: the network never runs unused"),
        (lambda net, y: (y, net.unused(y))[0], "unused", "is none: what the network returns is not seen to depend on it"),
        (
            lambda net, y: torch.ones(1, 6, *y.shape[-2:], device=y.device).double(),
            "second",
            "the cut before second is none: no featuremap crosses it",
        ),
        (lambda net, y: y.detach(), "first", "breaks the gradient: no derivative of its output reaches z"),
        (lambda net, y: y.round(), "first", "breaks the gradient: the prediction's derivative by z is zero everywhere"),
        (lambda net, y: y, "secnod", "at is 'secnod'; expected the name of a layer, for instance second"),
        (lambda net, y: y, [], "at is empty; expected the name of a layer"),
        (lambda net, y: y, 3, "at is 3; expected the name of a layer, or several names"),
        (lambda net, y: y, None, "at is None; expected the name of a layer, or several names"),
    ],
)
def test_a_cut_that_cannot_be_made_is_named(trick, at, words):
    network = lively(Net(trick))
    network.trick = trick
    with pytest.raises(ValueError, match=words):
        split_network(network, at=at)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_network_that_returns_several_pictures_is_named():
    class Two(Net):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(ValueError, match="the network returns a tuple; expected one tensor"):
        split_network(lively(Two(lambda net, y: y)), at="second")


def test_a_list_of_layers_with_side_effects_is_named():
    class Noise(nn.Module):
        def forward(self, x):
            return x + 0.1 * torch.randn_like(x)

    with pytest.raises(ValueError, match="has side effects: it gives another picture"):
        split_network(nn.Sequential(nn.Conv2d(4, 3, 1), Noise()), at=1)


def test_a_sequence_that_is_run_otherwise_is_no_list_of_layers():
    class Residual(nn.Sequential):
        def forward(self, x):
            return x[:, :3] + 0.1 * super().forward(x)

    network = lively(Residual(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1)))
    model = split_network(network, at="2")
    image, mask = picture(33, 50)
    assert isinstance(model, NamedSplitNetwork)
    assert torch.equal(model.rear(model.front(image, mask)), network(torch.cat([image * (1 - mask), mask], dim=1)))


def test_a_cut_shows_itself(unet):
    text = repr(split_network(unet, at="middle"))
    assert text.startswith("SplitNetwork, cut before middle\n")
    for line in (
        "3 tensors, 96 MB for 1024 x 1024 px",
        "down3.1      16 x H/4 x W/4",
        "down2.1      12 x H/2 x W/2",
        "8 x H x W",
    ):
        assert line in text
    n_rear = sum(p.numel() for name in ("middle", "up2", "up1", "head") for p in unet.get_submodule(name).parameters())
    assert f"{n_rear:,} parameters" in text
    lama = repr(split_network(LamaGenerator(ngf=4, n_blocks=2)))
    assert "z:     8 x H/8 x W/8 + 24 x H/8 x W/8, 2 MB for 1024 x 1024 px" in lama


def test_a_cut_by_name_moves_to_another_dtype_and_is_copied(unet):
    model = split_network(unet, at="middle")
    image, mask = picture(32, 40)
    single = copy.deepcopy(model).float()
    assert torch.allclose(single(image.float(), mask.float()).double(), model(image, mask), atol=1e-5)
    z = copy.deepcopy(single.front(image.float(), mask.float()))
    assert single.rear(z).dtype == torch.float32 and z.size == (32, 40)
    with pytest.raises(TypeError, match="z is a tuple; expected the Featuremap that front gave"):
        model.rear(tuple(z))
    with pytest.raises(ValueError, match="z has 1 tensors; expected 3, as front gave"):
        z.record.run(z[:1])


def test_the_layers_of_any_network_are_traced(unet):
    layers = trace(split_network(unet, at="middle"), *picture(32, 40))
    assert [layer.name for layer in layers][:3] == ["down1.0", "down1.1", "down2.0"]
    assert layers[-1].name == "head" and layers[-1].shapes == ((1, 3, 32, 40),)
