"""The products that are picked for speed are those of torch, for every size, memory format and type."""

import pytest
import torch
from tensors import TOLERANCES, convolved, near, random

from refine_lib.fast import products
from refine_lib.fast.products import LARGE, Product, rows_of

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
SIDES = (1, 9, 16, 33)  # tiny, small and large maps of 24 channels, for what is picked by size


def as_matrix(x, weight, bias=None):
    return convolved(x, weight[..., None, None], bias)


@pytest.fixture(params=["oneDNN", "none"])
def onednn(request, monkeypatch):
    if request.param == "none":
        monkeypatch.setattr(products, "_product_of_onednn", lambda dtype: None)
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
def test_a_product_is_rounded_but_for_few_rows_that_are_given_in_full(batch, given, onednn):
    weight, bias = random(10, 24, dtype=torch.float32), random(10, dtype=torch.float32)
    product, back = Product(weight, bias, torch.bfloat16), Product(weight.mT.contiguous(), None, torch.bfloat16)
    for side in (16, 40):
        x = random(batch, 24, side, side, dtype=given, memory_format=torch.channels_last)
        wanted, without_bias = as_matrix(x, weight, bias), as_matrix(x, weight)
        assert near(product.forward(x), wanted, torch.float32, torch.bfloat16)
        assert near(back.back(x), without_bias, torch.float32, torch.bfloat16)
        is_full = given == torch.float32 and x.numel() < LARGE
        precision = torch.float32 if is_full else torch.bfloat16
        for relu in (False, True):
            wanted_rows = rows_of(wanted.relu() if relu else wanted)
            assert near(product.forward_rows(rows_of(x), relu), wanted_rows, torch.float32, precision)
        found = back.back_rows(rows_of(x))
        assert near(found, rows_of(without_bias), torch.float32, precision)
        assert is_full == near(found, rows_of(without_bias), torch.float32, torch.float32)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_rows_of_a_part_of_the_channels_are_multiplied_too(dtype, onednn):
    x, weight, bias = random(1, 30, 9, 7, dtype=dtype, memory_format=torch.channels_last), random(10, 24), random(10)
    weight, bias = weight.to(dtype), bias.to(dtype)
    for seen in (x[:, :24], x[:, 6:]):
        assert near(Product(weight, bias).forward_rows(rows_of(seen)), rows_of(as_matrix(seen, weight, bias)), dtype)
        assert near(Product(weight.mT.contiguous()).back_rows(rows_of(seen)), rows_of(as_matrix(seen, weight)), dtype)
        to = random(1, 20, 9, 7, dtype=dtype, memory_format=torch.channels_last)
        before = to.double().clone()
        Product(weight).add_rows(rows_of(to[:, 10:]), rows_of(seen))
        Product(weight.mT.contiguous()).add_back_rows(rows_of(to[:, 10:]), rows_of(seen))
        assert torch.equal(to[:, :10].double(), before[:, :10])
        assert near(to[:, 10:], before[:, 10:] + 2 * as_matrix(seen, weight), dtype)


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


def test_what_is_added_to_must_not_be_a_copy():
    to = random(1, 8, 6, 6, memory_format=torch.channels_last)[..., 1:-1, 1:-1]
    with pytest.raises(RuntimeError, match="view"):
        Product(random(8, 4)).add(to, random(1, 4, 4, 4))


def test_what_is_looked_for_leaves_the_random_numbers_alone():
    products._product_of_onednn.cache_clear()
    before = torch.get_rng_state()
    products._product_of_onednn(torch.float32), products._product_of_onednn(torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), before)
