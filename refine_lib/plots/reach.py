"""How far a network sees: which input pixels a filled pixel depends on, and which output pixels an element of z reaches.

Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (2016): what a network
could see follows from its kernels; what it makes use of is measured by gradients.
"""

import torch
from torch import Tensor

from refine_lib.networks.featuremap import Featuremap
from refine_lib.networks.probe import device_of
from refine_lib.networks.split import SplitNetwork


def seen_by(model: SplitNetwork, image: Tensor, mask: Tensor, row: int, column: int) -> Tensor:
    """Returns how much the prediction at one pixel depends on every known pixel of the picture.

    Args:
        model: a ``SplitNetwork``.
        image, mask: (1, 3, H, W) in [0, 1] and (1, 1, H, W), 1 = hole.
        row, column: of the pixel, in pixels; most telling inside the hole.

    Returns:
        (H, W): root mean square of the derivatives of the pixel's three colors by the image's; 0 in the hole.
    """
    device = device_of(model, image.device)
    image = image.detach().to(device, copy=True).requires_grad_()
    prediction = model(image, mask.to(device))
    gradients = [torch.autograd.grad(color, image, retain_graph=True)[0] for color in prediction[0, :, row, column]]
    return torch.cat(gradients).pow(2).mean((0, 1)).sqrt()


def reached_by(model: SplitNetwork, z: Featuremap, row: int, column: int, n_probes: int = 4, seed: int = 0) -> Tensor:
    """Returns how much every pixel of the prediction changes with the featuremap at one place.

    Args:
        model: a ``SplitNetwork``.
        z: what ``model.front`` gave for one picture.
        row, column: of the place, in elements of z.
        n_probes: random directions among the channels at that place, over which is averaged.
        seed: of the directions.

    Returns:
        (H, W): root mean square over colors and directions of the derivative of the prediction.
    """
    assert z.size is not None  # as front makes it
    height, width = z.size
    generator = torch.Generator().manual_seed(seed)
    squares = []
    for _ in range(n_probes):
        directions = [torch.zeros_like(tensor) for tensor in z]
        for direction in directions:
            signs = torch.randint(2, (direction.shape[1],), generator=generator, device="cpu") * 2.0 - 1
            direction[0, :, row, column] = signs.to(direction)
        _, (change,) = torch.autograd.functional.jvp(lambda *tensors: tuple(model.rear(tensors)), tuple(z), tuple(directions))
        squares.append((change[:, :height, :width] ** 2).mean(0))
    return torch.stack(squares).mean(0).sqrt()


def side_of(influence: Tensor, row: int, column: int, share: float = 0.9) -> int:
    """Returns the side, in pixels, of the smallest square around a pixel that holds a share of the whole influence.

    The square may reach beyond the picture where the pixel is near the border.

    Args:
        influence: (H, W), as ``seen_by`` and ``reached_by`` give it.
        row, column: of the middle of the square.
    """
    height, width = influence.shape
    down = (torch.arange(height, device=influence.device) - row).abs()[:, None]
    across = (torch.arange(width, device=influence.device) - column).abs()[None, :]
    distance = torch.maximum(down, across).flatten()
    order = distance.argsort()
    held = influence.flatten()[order].cumsum(0)
    return 2 * int(distance[order][(held >= share * held[-1] * (1 - 1e-6)).nonzero()[0, 0]]) + 1
