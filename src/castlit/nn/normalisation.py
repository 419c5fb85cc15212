"""Vectors scaled to unit length, safely for those of zeros."""

from torch import Tensor
from torch.nn import functional as F

_SHORTEST = 1e-12
"""A vector no longer than this has no direction that could be told."""


def unit_length(x: Tensor, dim: int = 1) -> Tensor:
    """Scale vectors to unit length; one of zeros stays as it is, and gets a gradient of zero.

    A head without a last bias returns zeros for an image whose hidden units are all off. There
    :func:`torch.nn.functional.normalize` has a gradient of 10¹² times what comes in, and its second derivative, which
    Grad-CAM's loss asks for, is NaN: one such image would ruin all weights. Everywhere else the two are the same.

    Args:
        x: Any shape; the vectors lie along ``dim``.
        dim: The dimension to scale over.

    Returns:
        A tensor like ``x``, of unit length along ``dim`` or zero.
    """
    directionless = x.detach().norm(dim=dim, keepdim=True) <= _SHORTEST
    return F.normalize(x.masked_fill(directionless, 1.0), dim=dim).masked_fill(directionless, 0.0)
