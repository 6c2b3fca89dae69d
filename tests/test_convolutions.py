"""The convolutions that are picked for speed are those of torch, for every size and type."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from tensors import TOLERANCES, convolved, near, random

from refine_lib.fast import convolutions
from refine_lib.fast.convolutions import LIGHT, SMALL, TINY, Convolution, TransposedConvolution, has_ordered_convolutions

SIDES = (1, 9, 16, 33)  # tiny, small and large maps of 24 channels, for what is picked by size
LAST = torch.channels_last
BF16 = torch.bfloat16


@pytest.fixture(params=["oneDNN", "none"])
def onednn(request, monkeypatch):
    if request.param == "none":
        monkeypatch.setattr(convolutions, "has_ordered_convolutions", lambda: False)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (5, 5)])
@pytest.mark.parametrize("batch", [1, 2])
def test_convolutions_of_every_size_are_those_of_torch(dtype, kernel, batch, onednn):
    for side in SIDES:
        x = random(batch, 30, side + 4, side + 5, dtype=dtype, memory_format=LAST)
        weight, bias = random(10, 24, *kernel, dtype=dtype), random(10, dtype=dtype)
        for b in (None, bias):
            for seen in (x[:, :24], x[:, 6:], x[:, :24].contiguous()):
                assert near(Convolution(weight, b).forward(seen), convolved(seen, weight, b), dtype)
        y = random(batch, 10, side, side + 1, dtype=dtype, memory_format=LAST)
        wanted = F.conv_transpose2d(y.double(), weight.double())
        assert near(Convolution(weight, bias).back(y), wanted, dtype)
    assert 5 * 6 < TINY < 13 * 14 and 20 * 21 * 24 <= SMALL < 37 * 38 * 24


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("kernel", "stride", "padding", "added"), [(3, 2, 1, 1), (4, 2, 1, 0), (2, 2, 0, 0), (5, 3, 1, 2)])
@pytest.mark.parametrize("batch", [1, 2])
def test_transposed_convolutions_are_those_of_torch_with_a_relu(dtype, kernel, stride, padding, added, batch, onednn):
    weight, bias = random(24, 10, kernel, kernel, dtype=dtype), random(10, dtype=dtype)
    ours = TransposedConvolution(weight, bias, (stride,) * 2, (padding,) * 2, (added,) * 2)
    for side in SIDES[1:]:
        x = random(batch, 24, side, side + 1, dtype=dtype, memory_format=LAST)
        wanted = F.conv_transpose2d(x.double(), weight.double(), bias.double(), stride, padding, added)
        assert near(ours.forward(x), wanted.relu(), dtype)
        y = random(*wanted.shape, dtype=dtype, memory_format=LAST)
        assert near(ours.back(y), F.conv2d(y.double(), weight.double(), None, stride, padding), dtype)


def test_a_heavy_convolution_is_that_of_torch():
    weight, x = random(256, 64, 3, 3, dtype=BF16), random(1, 64, 6, 7, dtype=BF16)
    convolution = Convolution(weight)
    assert near(convolution.forward(x), convolved(x, weight), BF16)
    assert convolution._ordered is None and weight.numel() > LIGHT


def run(convolution):
    x, y = random(1, 24, 9, 9, dtype=BF16, memory_format=LAST), random(1, 10, 9, 9, dtype=BF16, memory_format=LAST)
    if isinstance(convolution, TransposedConvolution):
        return convolution.forward(y), convolution.back(x)
    return convolution.forward(x), convolution.back(y)


@pytest.fixture(params=["plain", "transposed"])
def ordered(request):
    """A convolution whose weight is in oneDNN's order, where there is such a thing, and its weight."""
    weight = random(10, 24, 3, 3, dtype=BF16)
    if request.param == "plain":
        convolution = Convolution(weight, random(10, dtype=BF16))
    else:
        convolution = TransposedConvolution(weight, random(24, dtype=BF16), (1, 1), (1, 1), (0, 0))
    run(convolution)
    assert (convolution._ordered is not None) == has_ordered_convolutions()
    return convolution, weight


@pytest.mark.parametrize("taken", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c)), lambda c: c.to("cpu")])
def test_a_convolution_can_be_copied_stored_and_moved_when_it_has_run(ordered, taken):
    convolution, weight = ordered
    wanted = run(convolution)
    again = taken(convolution)
    assert torch.equal(again.weight, weight)
    for one in (again, convolution):
        assert all(torch.equal(a, b) for a, b in zip(run(one), wanted, strict=True))


def test_a_convolution_that_has_run_can_be_widened(ordered):
    convolution, weight = ordered
    x = random(1, 24, 9, 9, dtype=torch.float32)
    if isinstance(convolution, Convolution):
        assert near(convolution.float().forward(x), convolved(x, weight, convolution.bias), torch.float32)
    else:
        assert near(convolution.float().back(x), F.conv2d(x.double(), weight.double(), None, 1, 1), torch.float32)


def test_what_is_looked_for_leaves_the_random_numbers_alone():
    has_ordered_convolutions.cache_clear()
    before = torch.get_rng_state()
    has_ordered_convolutions()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("missing", ["order", "order_transposed", "convolve_ordered", "transpose_ordered"])
@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_a_torch_without_these_functions_takes_its_usual_ones(missing, error, monkeypatch):
    def raising(*_):
        raise error("not in this torch")

    monkeypatch.setattr(convolutions, missing, raising)
    has_ordered_convolutions.cache_clear()
    try:
        assert not has_ordered_convolutions()
        weight, x = random(10, 24, 3, 3, dtype=BF16), random(1, 24, 5, 5, dtype=BF16)
        convolution = Convolution(weight)
        assert near(convolution.forward(x), convolved(x, weight), BF16) and convolution._ordered is None
    finally:
        has_ordered_convolutions.cache_clear()
