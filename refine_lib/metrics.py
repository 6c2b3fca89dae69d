"""How close a filled hole is to the truth."""


def hole_l1(prediction, truth, mask):
    """Mean absolute error inside the hole, over the batch: 0 is the truth, 1 is black for white.

    Shape: prediction and truth (B, C, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole.

    Returns:
        A float.

    Raises:
        ValueError: where the mask has no hole.
    """
    if not mask.any():
        raise ValueError("mask has no hole (no pixel is 1); expected one to measure in")
    return pooled_l1(prediction, truth, mask).item()


def pooled_l1(a, b, mask):
    """Mean absolute difference where the mask is 1, over the whole batch, as a tensor that passes gradients on.

    Shape: a and b (B, C, H, W), mask (B, 1, H, W) -> ().
    """
    return ((a - b).abs() * mask).sum() / (mask.sum() * a.shape[1])
