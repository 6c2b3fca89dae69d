"""What moves z. An optimizer is a class here and a line in ``OPTIMIZERS``; all that offers a choice of them reads that table.

Each is made with the tensors of z, a learning rate and the number of updates, and has ``zero_grad()`` and ``step(losses)``.
``title`` is what people read where they choose; ``has_lr`` says whether the learning rate means something.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.adam import adam


class _Optimizer:
    """Holds z. It is not ``torch.optim.Optimizer``, which loads torch's compiler when the first one is made: a second."""

    def __init__(self, z: Sequence[torch.Tensor]):
        self.z = list(z)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for z in self.z:
            z.grad = None

    def _moved(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The tensors of z that the loss reaches, and their gradients."""
        found = [(z, z.grad) for z in self.z if z.grad is not None]
        return [z for z, _ in found], [gradient for _, gradient in found]


class Adam(_Optimizer):
    """The paper's optimizer.

    Args:
        z: tensors (B, ...), the featuremap.
        lr: the learning rate.
        n_iters: updates that will be made; Adam has no use for it.

    Source: Algorithm 1, ``predict_and_refine``.
    """

    title, has_lr = "Adam, the paper's", True

    def __init__(self, z: Sequence[torch.Tensor], lr: float, n_iters: int):
        super().__init__(z)
        self.lr = lr
        self.state = {
            t: [torch.zeros_like(t), torch.zeros_like(t), torch.zeros((), dtype=torch.float32, device=t.device)] for t in self.z
        }

    @torch.no_grad()
    def step(self, losses: torch.Tensor) -> None:
        """One update from the gradients; Adam has no use for the losses."""
        z, gradients = self._moved()
        means, squares, n_steps = ([self.state[t][i] for t in z] for i in range(3))
        numbers: dict[str, Any] = dict(lr=self.lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0, amsgrad=False)
        adam(z, gradients, means, squares, [], n_steps, fused=True, maximize=False, **numbers)


class Polyak(_Optimizer):
    """Steepest descent whose steps are as long as the loss says: z -= (1 - i / n) * loss / |g|^2 * g in update i of n.

    With most networks it was measured with, a third of Adam's updates will do. It has no learning rate. Were the loss linear in
    z, a step of loss / |g|^2 along the gradient g would bring it to 0, which is about the best that a prediction can agree with
    the smaller picture. It is not linear. So the steps shrink on the way, and are halved where the loss rose nevertheless. None
    is longer than z itself, as it would be where the gradient is next to nothing. Each picture of a batch has its own step.

    Args:
        z: tensors (B, ...), the featuremap.
        lr: not used. Where z is scaled, g is scaled the other way, and the step with z, so there is nothing to set.
        n_iters: updates that will be made.

    Source: the step of B. T. Polyak, "Minimization of unsmooth functionals" (1969), with 0 as the least value; the linear decay
    is ours.
    """

    title, has_lr = "Polyak's step: few iterations, no rate", False

    def __init__(self, z: Sequence[torch.Tensor], lr: float | None, n_iters: int):
        super().__init__(z)
        self.n_iters, self.n_done = n_iters, 0
        self.last: torch.Tensor | None = None
        self.reach: torch.Tensor | None = None

    @torch.no_grad()
    def step(self, losses: torch.Tensor) -> None:
        """One update from the gradients and the losses of the pictures, (B,)."""
        if self.last is None or self.reach is None:
            self.last, self.reach = losses, torch.ones_like(losses)
        self.reach = torch.where(losses > self.last, self.reach / 2, self.reach)
        self.last = losses
        moved, gradients = self._moved()
        squared = _squared_length(gradients).clamp(min=1e-20)
        length = self.reach * max(0, 1 - self.n_done / self.n_iters) * losses / squared
        length = torch.minimum(length, (_squared_length(moved) / squared).sqrt())
        for z, gradient in zip(moved, gradients, strict=True):
            z.addcmul_(length.view(-1, *[1] * (z.ndim - 1)), gradient, value=-1)
        self.n_done += 1


def _squared_length(tensors):
    """The squared length of each picture's tensors together, (B,)."""
    return torch.stack([t.square().flatten(1).sum(dim=1) for t in tensors]).sum(dim=0)


OPTIMIZERS = {"adam": Adam, "polyak": Polyak}

# Settings of ``multiscale_inpaint`` that go together, by name: ``multiscale_inpaint(image, mask, model, **PRESETS["fast"])``.
# ``fast`` is a third of the passes. With six networks its loss, the paper's, was lower than that of ``paper``. In thick holes
# its L1 was lower too, or about the same. In narrow holes of small pictures, where the smaller picture misleads, it was often
# higher. The numbers are in ``fast/SPEED.md``.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"optimizer": "adam", "n_iters": 15},
    "fast": {"optimizer": "polyak", "n_iters": 5},
}
