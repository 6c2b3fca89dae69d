"""What a training does with all weights at once: bounds their gradients, and lets an average follow them."""

import copy
import math

import torch


@torch.no_grad()
def clip_gradients(parameters, most=1.0):
    """Scales all gradients together so that their norm is at most ``most``; returns what it was.

    Raises:
        RuntimeError: where it is not finite; the gradients stay as they are.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack(torch._foreach_norm(gradients)).norm().item()
    if not math.isfinite(norm):
        raise RuntimeError(f"the norm of the gradients is non-finite: {norm}")
    if norm > most:
        torch._foreach_mul_(gradients, most / (norm + 1e-6))
    return norm


class MovingAverage:
    """A copy of a network, in eval mode, whose weights and running statistics follow those of the original slowly.

    Args:
        network: the original; ``update`` reads its tensors, so it stays on its device.
        horizon: the steps that an average is over; at most about a tenth of the updates made so far.
    """

    def __init__(self, network, horizon=1000):
        self.horizon, self.n_updates = horizon, 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        averages, values = ([*one.parameters(), *one.buffers()] for one in (self.network, network))
        numbers = [i for i, value in enumerate(values) if value.is_floating_point()]
        counts = [i for i, value in enumerate(values) if not value.is_floating_point()]
        self._numbers, self._counts = ([[some[i] for i in at] for some in (averages, values)] for at in (numbers, counts))

    @torch.no_grad()
    def update(self):
        """Moves the average towards the original; the first time it becomes the same."""
        share = max(1 / self.horizon, 10 / (self.n_updates + 10))
        torch._foreach_lerp_(*self._numbers, share)
        if self._counts[0]:  # a network without batch norms counts nothing
            torch._foreach_copy_(*self._counts)
        self.n_updates += 1

    def state_dict(self):
        return {"network": self.network.state_dict(), "n_updates": self.n_updates}

    def load_state_dict(self, state):
        self.network.load_state_dict(state["network"])
        self.n_updates = state["n_updates"]
