"""The optimiser of the training: Muon, which gives every direction of a layer's update the same strength.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). On the embedded network it reaches in a third
of the pictures what AdamW reaches (networks/MINI_LAMA.md has the numbers).
"""

from collections import defaultdict

import torch


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
            same_shape = defaultdict(list)  # orthogonalised together: many small products are slow one by one
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(mean, group["momentum"]).flatten(1)  # Nesterov's: a step ahead of the mean
                same_shape[update.shape].append((p, update))
            for (rows, columns), pairs in same_shape.items():
                updates = orthogonalised(torch.stack([update for _, update in pairs])) * max(1, rows / columns) ** 0.5
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.view_as(p), alpha=-group["lr"])


def orthogonalised(matrices, n_iters=5):
    """Matrices with the same singular vectors and singular values near 1, by a quintic Newton-Schulz iteration.

    Near is good enough for an update: most values come to lie between 0.7 and 1.2, very small ones below.

    Shape: (N, rows, columns) -> (N, rows, columns).
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(n_iters):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if matrices.shape[1] <= matrices.shape[2] else x.mT
