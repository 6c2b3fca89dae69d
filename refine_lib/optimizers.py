"""An optimiser for z that needs a third of Adam's updates and no learning rate."""

import torch


def _norm(tensors):
    """The length of each picture's tensors together, (B,)."""
    return sum(t.square().flatten(1).sum(dim=1) for t in tensors).sqrt()


class Polyak(torch.optim.Optimizer):
    """Steepest descent whose steps are as long as the loss says: z -= (1 - i / n) * loss / |g|^2 * g in update i of n.

    Were the loss linear in z, a step of loss / |g|^2 along the gradient g would bring it to 0, which is about the best that a
    prediction can agree with the smaller picture. It is not linear, so the steps shrink on the way, and are halved where the
    loss rose nevertheless; and none is longer than z itself, as it would be where the gradient is next to nothing. There is
    nothing to set: where z is scaled, g is scaled the other way, and the step with z. Each picture of a batch has its own
    step.

    Args:
        params: tensors (B, ...), the featuremap z.
        n_iters: updates that will be made.

    Source: the step of B. T. Polyak, "Minimization of unsmooth functionals" (1969), with 0 as the least value; the linear decay
    is ours.
    """

    def __init__(self, params, n_iters):
        super().__init__(params, dict(n_iters=n_iters))
        self.n_done = 0
        self.last = self.reach = None

    @torch.no_grad()
    def step(self, closure):
        """One update; ``closure`` returns the losses of the pictures, (B,)."""
        losses = closure()
        if self.last is None:
            self.last, self.reach = losses, torch.ones_like(losses)
        self.reach = torch.where(losses > self.last, self.reach / 2, self.reach)
        self.last = losses
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            squared = sum(p.grad.square().flatten(1).sum(dim=1) for p in moved)
            length = self.reach * max(0, 1 - self.n_done / group["n_iters"]) * losses / squared.clamp(min=1e-20)
            length = torch.minimum(length, _norm(moved) / squared.clamp(min=1e-20).sqrt())
            for p in moved:
                p.addcmul_(length.view(-1, *[1] * (p.ndim - 1)), p.grad, value=-1)
        self.n_done += 1
        return losses
