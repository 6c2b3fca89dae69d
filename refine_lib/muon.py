"""The optimizer of the training: Muon, which gives every direction of a layer's update the same strength.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). On the embedded network it reaches in a third
of the pictures what AdamW reaches (networks/MINI_LAMA.md has the numbers).
"""

from collections import defaultdict

import torch

# a, b and c of each step x -> a x + b x^3 + c x^5, found by a search for those that four steps need to bring all values in
# [0.003, 1] closest to 1: the paper's own, the same in each step, need five.
STEPS = (6.1569, -18.0225, 13.3340), (4.0593, -5.4396, 1.8577), (3.3400, -4.3726, 1.5501), (3.0768, -4.0673, 1.7986)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, each weight taken as a matrix: its first dimension by all others.

    For the weights of hidden convolutions, transposed ones too; AdamW is for the first and the last layer, biases and batch
    norms.

    Args:
        params: weights of two or more dimensions.
        lr: learning rate; an update has about this size in every direction.
        momentum: share of the past in the running mean of the gradients.
        weight_decay: share of a weight that a step of rate 1 takes away.
    """

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            weights, momentum = group["params"], group["momentum"]
            gradients = [p.grad for p in weights]
            means = [self.state[p].setdefault("mean", torch.zeros_like(p)) for p in weights]
            torch._foreach_lerp_(means, gradients, 1 - momentum)
            updates = torch._foreach_lerp(gradients, means, momentum)  # Nesterov's: a step ahead of the mean
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            same_shape = defaultdict(list)  # orthogonalised together: many small products are slow one by one
            for p, update in zip(weights, updates, strict=True):
                update = _as_it_lies(update)
                same_shape[len(update), update[0].numel()].append((_as_it_lies(p), update))
            for (rows, columns), pairs in same_shape.items():
                found = orthogonalised(torch.stack([update for _, update in pairs]).flatten(2))
                found = [update.view_as(p) for (p, _), update in zip(pairs, found, strict=True)]
                torch._foreach_add_([p for p, _ in pairs], found, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def _as_it_lies(weight):
    """A view of a weight with its columns in the order of memory: an update does not depend on their order, and it saves copies."""
    is_channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return weight.permute(0, 2, 3, 1) if is_channels_last else weight


def best_precision():
    """bfloat16 where the CPU multiplies in it, float32 elsewhere: without the units bfloat16 is the slower one."""
    asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    has_units = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and any(ask() for ask in asks if ask)
    return torch.bfloat16 if has_units else torch.float32


def orthogonalised(matrices):
    """Matrices with the same singular vectors and singular values near 1, by a quintic Newton-Schulz iteration.

    Near is good enough for an update: values from 0.003 of the largest up come to lie between 0.7 and 1.1, smaller ones below.
    On a CPU that multiplies in bfloat16, float32 is rounded to that.

    Shape: (N, rows, columns) -> (N, rows, columns).
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if x.shape[2] >= 8 * x.shape[1]:
        x = _by_products(x)
        return x if matrices.shape[1] <= matrices.shape[2] else x.mT
    if x.dtype == torch.float32 and x.is_cpu:
        x = x.to(best_precision())
    for step, (a, b, c) in enumerate(STEPS):
        gram = x @ x.mT
        if step == 0:  # this norm, of squared values, is the closer bound of the largest one, and there already
            bound = gram.norm(dim=(1, 2), keepdim=True).clamp(min=1e-14)
            x, gram = x / bound.sqrt(), gram / bound
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(matrices.dtype)
    return x if matrices.shape[1] <= matrices.shape[2] else x.mT


def _by_products(x):
    """The same for very wide matrices: all steps together are a factor (rows, rows), and the small ``x @ x.mT`` tells it.

    It holds squares of singular values, so it wants more bits than bfloat16 has.
    """
    gram = x @ x.mT
    bound = gram.norm(dim=(1, 2), keepdim=True).clamp(min=1e-14)
    gram, factor = gram / bound, torch.eye(len(gram[0]), dtype=x.dtype, device=x.device).expand_as(gram)
    for a, b, c in STEPS:
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=1, dim2=2).add_(a)
        factor, gram = step @ factor, step @ gram @ step
    return (factor / bound.sqrt()) @ x
