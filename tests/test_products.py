"""The convolutions and products that are picked for speed are torch's own, for every size, memory format and type."""

import pytest
import torch
import torch.nn.functional as F

from refine_lib.networks import products
from refine_lib.networks.products import LARGE, SMALL, TINY, add_product, convolve, convolve_back, product

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 3e-2}
SIDES = (1, 9, 16, 33)  # tiny, small and large maps of 24 channels, for what is picked by size


def random(*shape, dtype=torch.float64, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).contiguous(memory_format=memory_format)


def near(found, wanted, dtype):
    assert found.shape == wanted.shape and found.dtype == dtype
    return (found.double() - wanted).abs().max() < TOLERANCES[dtype] * wanted.abs().max().clamp(min=1)


@pytest.fixture(params=["oneDNN", "none"])
def onednn(request, monkeypatch):
    if request.param == "none":
        monkeypatch.setattr(products, "_product_of_onednn", lambda: None)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_product_is_a_1x1_convolution_from_any_format(dtype, memory_format, batch, onednn):
    for side in (*SIDES, 40):
        x = random(batch, 30, side, side + 2, dtype=dtype, memory_format=FORMATS[memory_format])
        weight, bias = random(10, 24, dtype=dtype), random(10, dtype=dtype)
        for seen in (x[:, :24], x[:, 6:], x[:, :24].contiguous(memory_format=FORMATS[memory_format])):
            for b in (None, bias):
                wanted = F.conv2d(seen.double(), weight.double()[..., None, None], None if b is None else b.double())
                found = product(weight, seen, b)
                assert near(found, wanted, dtype) and found.is_contiguous()
            transposed = product(weight.mT.contiguous().mT, seen)  # as on the way back
            assert near(transposed, F.conv2d(seen.double(), weight.double()[..., None, None]), dtype)
    assert SIDES[-1] * 35 * 24 < LARGE < 40 * 42 * 24  # both ways were taken


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("to_format", FORMATS)
def test_a_product_is_added_in_place_to_part_of_the_channels(dtype, memory_format, to_format):
    for batch in (1, 2):
        x = random(batch, 12, 9, 7, dtype=dtype, memory_format=FORMATS[memory_format])
        to = random(batch, 20, 9, 7, dtype=dtype, memory_format=FORMATS[to_format])
        weight, before = random(16, 12, dtype=dtype), to.double().clone()
        add_product(to[:, 4:], weight, x)
        assert torch.equal(to[:, :4].double(), before[:, :4])
        assert near(to[:, 4:], before[:, 4:] + F.conv2d(x.double(), weight.double()[..., None, None]), dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (5, 5)])
@pytest.mark.parametrize("batch", [1, 2])
def test_convolutions_of_every_size_are_those_of_torch(dtype, kernel, batch):
    for side in SIDES:
        x = random(batch, 24, side + 4, side + 5, dtype=dtype, memory_format=torch.channels_last)
        weight, bias = random(10, 24, *kernel, dtype=dtype, memory_format=torch.channels_last), random(10, dtype=dtype)
        for b in (None, bias):
            wanted = F.conv2d(x.double(), weight.double(), None if b is None else b.double())
            assert near(convolve(x, weight, b), wanted, dtype)
        y = random(batch, 10, side, side + 1, dtype=dtype, memory_format=torch.channels_last)
        assert near(convolve_back(y, weight), F.conv_transpose2d(y.double(), weight.double()), dtype)
    assert 5 * 6 < TINY < 13 * 14 and 20 * 21 * 24 <= SMALL < 37 * 38 * 24


def test_what_is_added_to_must_not_be_a_copy():
    to = random(1, 8, 6, 6, memory_format=torch.channels_last)[..., 1:-1, 1:-1]
    with pytest.raises(RuntimeError, match="view"):
        add_product(to, random(8, 4), random(1, 4, 4, 4))


def test_the_product_that_is_looked_for_leaves_the_random_numbers_alone():
    products._product_of_onednn.cache_clear()
    before = torch.get_rng_state()
    products._product_of_onednn()
    assert torch.equal(torch.get_rng_state(), before)
