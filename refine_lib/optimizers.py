"""What moves z. An optimizer is a class here and a line in ``OPTIMIZERS``; all that offers a choice of them reads that table.

Each is made with the tensors of z, a learning rate and the number of updates, and has ``zero_grad()`` and ``step(losses)``.
``title`` is what people read where they choose; ``has_lr`` says whether the learning rate means something.
"""

from collections.abc import Sequence

import torch


class Adam(torch.optim.Adam):
    """The paper's optimizer.

    Args:
        z: tensors (B, ...), the featuremap.
        lr: the learning rate.
        n_iters: updates that will be made; Adam has no use for it.

    Source: Algorithm 1, ``predict_and_refine``.
    """

    title, has_lr = "Adam, the paper's", True

    def __init__(self, z: Sequence[torch.Tensor], lr: float, n_iters: int):
        super().__init__(z, lr=lr, fused=True)

    def step(self, losses: torch.Tensor) -> None:
        """One update from the gradients; Adam has no use for the losses."""
        super().step()


class Polyak(torch.optim.Optimizer):
    """Steepest descent whose steps are as long as the loss says: z -= (1 - i / n) * loss / |g|^2 * g in update i of n.

    It needs a third of Adam's updates and no learning rate. Were the loss linear in z, a step of loss / |g|^2 along the
    gradient g would bring it to 0, which is about the best that a prediction can agree with the smaller picture. It is not
    linear. So the steps shrink on the way, and are halved where the loss rose nevertheless. None is longer than z itself, as
    it would be where the gradient is next to nothing. Each picture of a batch has its own step.

    Args:
        z: tensors (B, ...), the featuremap.
        lr: not used. Where z is scaled, g is scaled the other way, and the step with z, so there is nothing to set.
        n_iters: updates that will be made.

    Source: the step of B. T. Polyak, "Minimization of unsmooth functionals" (1969), with 0 as the least value; the linear decay
    is ours.
    """

    title, has_lr = "Polyak's step: 5 iterations will do", False

    def __init__(self, z: Sequence[torch.Tensor], lr: float | None, n_iters: int):
        super().__init__(z, {})
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
        moved = [z for group in self.param_groups for z in group["params"] if z.grad is not None]
        squared = _squared_length([z.grad for z in moved]).clamp(min=1e-20)
        length = self.reach * max(0, 1 - self.n_done / self.n_iters) * losses / squared
        length = torch.minimum(length, (_squared_length(moved) / squared).sqrt())
        for z in moved:
            z.addcmul_(length.view(-1, *[1] * (z.ndim - 1)), z.grad, value=-1)
        self.n_done += 1


def _squared_length(tensors):
    """The squared length of each picture's tensors together, (B,)."""
    return torch.stack([t.square().flatten(1).sum(dim=1) for t in tensors]).sum(dim=0)


OPTIMIZERS = {"adam": Adam, "polyak": Polyak}
