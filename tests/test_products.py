"""The products that are picked for speed are those of torch, for every size, memory format and type."""

import pytest
import torch
from tensors import TOLERANCES, convolved, near, random

from refine_lib.fast import products
from refine_lib.fast.products import LARGE_NUMBERS_PER_MAP, Product, product_of_onednn

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
SIDES = (1, 9, 16, 33, 40)  # tiny, small and large maps of 24 channels, for what is picked by size


def as_matrix(x, weight, bias=None):
    return convolved(x, weight[..., None, None], bias)


@pytest.fixture(params=["oneDNN", "none"])
def onednn(request, monkeypatch):
    if request.param == "none":
        monkeypatch.setattr(products, "product_of_onednn", lambda: None)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_product_is_a_1x1_convolution_from_any_format(dtype, memory_format, batch, onednn):
    for side in SIDES:
        x = random(batch, 30, side, side + 2, dtype=dtype, memory_format=FORMATS[memory_format])
        weight, bias = random(10, 24, dtype=dtype), random(10, dtype=dtype)
        for seen in (x[:, :24], x[:, 6:], x[:, :24].contiguous(memory_format=FORMATS[memory_format])):
            for b in (None, bias):
                found = Product(weight, b)(seen)
                assert near(found, as_matrix(seen, weight, b), dtype) and found.is_contiguous()
            found = Product(weight.mT.contiguous(), bias).back(seen)
            assert near(found, as_matrix(seen, weight), dtype) and found.is_contiguous()
    assert 33 * 35 * 24 < LARGE_NUMBERS_PER_MAP < 40 * 42 * 24  # both ways were taken


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_a_product_is_rounded_to_its_precision(batch, given, onednn):
    weight, bias = random(10, 24, dtype=torch.float32), random(10, dtype=torch.float32)
    product, back = Product(weight, bias, torch.bfloat16), Product(weight.mT.contiguous(), None, torch.bfloat16)
    for side in (16, 40):
        x = random(batch, 24, side, side, dtype=given, memory_format=torch.channels_last)
        assert near(product(x), as_matrix(x, weight, bias), torch.float32, torch.bfloat16)
        assert near(back.back(x), as_matrix(x, weight), torch.float32, torch.bfloat16)
        assert not near(back.back(x), as_matrix(x, weight), torch.float32, torch.float32)


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
    product_of_onednn.cache_clear()
    before = torch.get_rng_state()
    product_of_onednn()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="is taken on such CPUs alone")
def test_torch_still_has_the_product_that_it_does_not_document():
    if torch.backends.mkldnn.is_available():
        assert product_of_onednn() is not None, (
            "torch.ops.mkldnn._linear_pointwise is gone, or takes other arguments. Results stay right, for products.py then"
            " takes torch's own product. Look for the name by which torch/_inductor/mkldnn_lowerings.py now calls oneDNN's"
            " product; if there is none, delete product_of_onednn and measure anew with refine_lib.workshop.benchmark"
        )
