"""The optimizer of the training: Muon, which gives every direction of a layer's update the same strength.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). On the embedded network it reaches in a third
of the pictures what AdamW reaches (networks/MINI_LAMA.md has the numbers).
"""

from collections import defaultdict

import torch

A, B, C = 3.4445, -4.7750, 2.0315  # of a step x -> A x + B x^3 + C x^5: bounded also where rounding puts x a little above 1


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
            gradients = [_laid_out_as(p, p.grad) for p in weights]
            for p in weights:
                if "mean" not in self.state[p]:
                    self.state[p]["mean"] = torch.zeros_like(p)
            means = [self.state[p]["mean"] for p in weights]
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


def _laid_out_as(weight, gradient):
    """The gradient in the memory format of its weight: by its numbers' places in memory the two are taken together."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


def _as_it_lies(weight):
    """A view of a weight with its columns in the order of memory: an update does not depend on it, and copies are saved."""
    is_channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return weight.permute(0, 2, 3, 1) if is_channels_last else weight


def best_precision():
    """bfloat16 where the CPU multiplies in it, float32 elsewhere: without the units bfloat16 is the slower one."""
    asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    has_units = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and any(ask() for ask in asks if ask)
    return torch.bfloat16 if has_units else torch.float32


def orthogonalised(matrices, n_iters=4):
    """Matrices with the same singular vectors and singular values near 1, by a quintic Newton-Schulz iteration.

    Near is good enough for an update: most values come to lie between 0.7 and 1.2, very small ones below. On a CPU that
    multiplies in bfloat16, float32 is rounded to that. The paper divides by the norm of a matrix and takes five steps; the norm
    of ``x @ x.mT``, which the first step has at hand, is a closer bound of the largest value, and saves one.

    Shape: (N, rows, columns) -> (N, rows, columns).
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    made = _by_products(x, n_iters) if x.shape[2] >= 8 * x.shape[1] else _step_by_step(x, n_iters)
    return made if matrices.shape[1] <= matrices.shape[2] else made.mT


def _step_by_step(x, n_iters):
    precision = best_precision() if x.dtype == torch.float32 and x.is_cpu else x.dtype
    made = x.to(precision)
    for step in range(n_iters):
        gram = made @ made.mT
        if step == 0:
            bound = _norm(gram)
            made, gram = made / bound.sqrt(), gram / bound
        made = torch.baddbmm(made, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), made, beta=A)
    return made.to(x.dtype)


def _by_products(x, n_iters):
    """The same for very wide matrices: all steps together are a factor (rows, rows), and the small ``x @ x.mT`` tells it.

    It holds squares of singular values, so it wants more bits than bfloat16 has.
    """
    gram = x @ x.mT
    bound = _norm(gram)
    gram, factor = gram / bound, torch.eye(len(gram[0]), dtype=x.dtype, device=x.device).expand_as(gram)
    for _ in range(n_iters):
        step = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        step.diagonal(dim1=1, dim2=2).add_(A)
        factor, gram = step @ factor, step @ gram @ step
    return (factor / bound.sqrt()) @ x


def _norm(matrices):
    return matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-14)
