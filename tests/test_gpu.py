"""What only a machine with a GPU can show."""

import pytest
import torch
from conftest import picture

from refine_lib import load_network, multiscale_inpaint

pytestmark = pytest.mark.gpu
SETTINGS = dict(smallest_scale=32, n_iters=5, erosion=3)


def test_cuda_agrees_with_the_cpu():
    image, mask = picture(128, 120)
    results = [multiscale_inpaint(image, mask, load_network(device=d).double(), **SETTINGS) for d in ("cpu", "cuda")]
    assert results[1].image.device == image.device
    assert (results[0].image - results[1].image).abs().max() < 1e-6
    known = (mask == 0).expand_as(image)
    assert torch.equal(results[1].image[known], image[known])


def test_memory_is_that_of_the_device():
    image, mask = picture(128, 128, dtype=torch.float32)
    torch.cuda.reset_peak_memory_stats()
    result = multiscale_inpaint(image.cuda(), mask.cuda(), load_network(device="cuda"), **SETTINGS)
    assert result.image.device.type == "cuda"
    assert result.steps[-1].peak_memory == torch.cuda.max_memory_allocated()
