"""Weights by formula: networks that are the same everywhere, without a file."""

import torch


@torch.no_grad()
def fill_by_formula(network):
    """Fills a network's state in its own order with sines, as ``tests/known_answers`` was made; returns it in float64.

    Tensor number k gets s = sin(12.9898 i + 78.233 k), scaled by what it is, rounded to float32 on the way.
    """
    for k, (name, tensor) in enumerate(network.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        i = torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
        s = torch.sin(12.9898 * i + 78.233 * k)
        if name.endswith("running_mean"):
            values = 0.1 * s
        elif name.endswith("running_var"):
            values = 1 + 0.5 * s
        elif tensor.ndim >= 2:
            values = s * (2 * tensor.shape[0] / tensor.numel()) ** 0.5
        elif name.endswith("weight"):
            values = 1 + 0.2 * s
        else:
            values = 0.1 * s
        tensor.copy_(values.float())
    return network.double().eval()
