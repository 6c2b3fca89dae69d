"""The convolutions and products that are picked for speed are torch's own, for every size, memory format and type."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from refine_lib.networks import products
from refine_lib.networks.products import LARGE, LIGHT, SMALL, TINY, Convolution, Product

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 3e-2}
SIDES = (1, 9, 16, 33)  # tiny, small and large maps of 24 channels, for what is picked by size


def random(*shape, dtype=torch.float64, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).contiguous(memory_format=memory_format)


def near(found, wanted, dtype, precision=None):
    assert found.shape == wanted.shape and found.dtype == dtype
    return (found.double() - wanted).abs().max() < TOLERANCES[precision or dtype] * wanted.abs().max().clamp(min=1)


def convolved(x, weight, bias=None):
    return F.conv2d(x.double(), weight.double(), None if bias is None else bias.double())


def as_matrix(x, weight, bias=None):
    return convolved(x, weight[..., None, None], bias)


@pytest.fixture(params=["oneDNN", "none"])
def onednn(request, monkeypatch):
    if request.param == "none":
        monkeypatch.setattr(products, "_product_of_onednn", lambda: None)
        monkeypatch.setattr(products, "_has_ordered_convolutions", lambda: False)
    return request.param == "oneDNN"


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_product_is_a_1x1_convolution_from_any_format(dtype, memory_format, batch, onednn):
    for side in (*SIDES, 40):
        x = random(batch, 30, side, side + 2, dtype=dtype, memory_format=FORMATS[memory_format])
        weight, bias = random(10, 24, dtype=dtype), random(10, dtype=dtype)
        for seen in (x[:, :24], x[:, 6:], x[:, :24].contiguous(memory_format=FORMATS[memory_format])):
            for b in (None, bias):
                found = Product(weight, b).forward(seen)
                assert near(found, as_matrix(seen, weight, b), dtype) and found.is_contiguous()
            found = Product(weight.mT.contiguous(), bias).back(seen)
            assert near(found, as_matrix(seen, weight), dtype) and found.is_contiguous()
    assert SIDES[-1] * 35 * 24 < LARGE < 40 * 42 * 24  # both ways were taken


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_a_product_rounds_large_maps_alone(batch, given):
    weight, bias = random(10, 24, dtype=torch.float32), random(10, dtype=torch.float32)
    product = Product(weight, bias, torch.bfloat16)
    for side, precision in ((16, torch.float32), (40, torch.bfloat16)):
        x = random(batch, 24, side, side, dtype=given)
        assert near(product.forward(x), as_matrix(x, weight, bias), torch.float32, precision)
        assert not torch.equal(product.forward(x), Product(weight, bias).forward(x.float())) or precision == torch.float32
        back = Product(weight.mT.contiguous(), None, torch.bfloat16).back(x)
        assert near(back, as_matrix(x, weight), torch.float32, precision)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("to_format", FORMATS)
def test_a_product_is_added_in_place_to_part_of_the_channels(dtype, memory_format, to_format):
    for batch in (1, 2):
        x = random(batch, 12, 9, 7, dtype=dtype, memory_format=FORMATS[memory_format])
        weight = random(16, 12, dtype=dtype)
        for add in (Product(weight).add, Product(weight.mT.contiguous()).add_back):
            to = random(batch, 20, 9, 7, dtype=dtype, memory_format=FORMATS[to_format])
            before = to.double().clone()
            add(to[:, 4:], x)
            assert torch.equal(to[:, :4].double(), before[:, :4])
            assert near(to[:, 4:], before[:, 4:] + as_matrix(x, weight), dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (5, 5)])
@pytest.mark.parametrize("batch", [1, 2])
def test_convolutions_of_every_size_are_those_of_torch(dtype, kernel, batch, onednn):
    for side in SIDES:
        x = random(batch, 30, side + 4, side + 5, dtype=dtype, memory_format=torch.channels_last)
        weight, bias = random(10, 24, *kernel, dtype=dtype), random(10, dtype=dtype)
        for b in (None, bias):
            for seen in (x[:, :24], x[:, 6:], x[:, :24].contiguous()):
                assert near(Convolution(weight, b).forward(seen), convolved(seen, weight, b), dtype)
        y = random(batch, 10, side, side + 1, dtype=dtype, memory_format=torch.channels_last)
        wanted = F.conv_transpose2d(y.double(), weight.double())
        assert near(Convolution(weight, bias).back(y), wanted, dtype)
    assert 5 * 6 < TINY < 13 * 14 and 20 * 21 * 24 <= SMALL < 37 * 38 * 24


def test_a_heavy_convolution_is_that_of_torch():
    weight, x = random(128, 64, 3, 3, dtype=torch.bfloat16), random(1, 64, 6, 7, dtype=torch.bfloat16)
    convolution = Convolution(weight)
    assert near(convolution.forward(x), convolved(x, weight), torch.bfloat16)
    assert convolution.weight is not None and weight.numel() > LIGHT


@pytest.fixture
def ordered():
    """A convolution whose weight is in oneDNN's order, where there is such a thing, and its weight."""
    weight = random(10, 24, 3, 3, dtype=torch.bfloat16)
    convolution = Convolution(weight, random(10, dtype=torch.bfloat16))
    convolution.forward(random(1, 24, 5, 5, dtype=torch.bfloat16))
    if products._has_ordered_convolutions():
        assert convolution.weight is None
    return convolution, weight


@pytest.mark.parametrize("taken", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c)), lambda c: c.to("cpu")])
def test_a_convolution_can_be_copied_stored_and_moved_when_it_has_run(ordered, taken):
    convolution, weight = ordered
    x, y = random(1, 24, 9, 9, dtype=torch.bfloat16), random(1, 10, 9, 9, dtype=torch.bfloat16)
    wanted = convolution.forward(x), convolution.back(y)
    again = taken(convolution)
    assert torch.equal(again.weight, weight)
    assert torch.equal(again.forward(x), wanted[0]) and torch.equal(again.back(y), wanted[1])
    assert torch.equal(convolution.forward(x), wanted[0]) and torch.equal(convolution.back(y), wanted[1])


def test_a_convolution_that_has_run_can_be_widened(ordered):
    convolution, weight = ordered
    x = random(1, 24, 9, 9, dtype=torch.float32)
    assert near(convolution.float().forward(x), convolved(x, weight, convolution.bias), torch.float32)


def test_what_is_added_to_must_not_be_a_copy():
    to = random(1, 8, 6, 6, memory_format=torch.channels_last)[..., 1:-1, 1:-1]
    with pytest.raises(RuntimeError, match="view"):
        Product(random(8, 4)).add(to, random(1, 4, 4, 4))


@pytest.mark.parametrize("looks", [products._product_of_onednn, products._has_ordered_convolutions])
def test_what_is_looked_for_leaves_the_random_numbers_alone(looks):
    looks.cache_clear()
    before = torch.get_rng_state()
    looks()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_a_torch_without_these_functions_takes_its_usual_ones(error, monkeypatch):
    def raising(*_):
        raise error("not in this torch")

    monkeypatch.setattr(products, "_in_order", raising)
    products._has_ordered_convolutions.cache_clear()
    try:
        assert not products._has_ordered_convolutions()
        weight, x = random(10, 24, 3, 3, dtype=torch.bfloat16), random(1, 24, 5, 5, dtype=torch.bfloat16)
        convolution = Convolution(weight)
        assert near(convolution.forward(x), convolved(x, weight), torch.bfloat16) and convolution.weight is not None
    finally:
        products._has_ordered_convolutions.cache_clear()
