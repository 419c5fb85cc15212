"""L2 normalisation that is safe for vectors of zeros."""

from torch import Tensor
from torch.nn import functional as F

_SHORTEST = 1e-12
"""A vector of at most this norm counts as zero."""


def unit_length(x: Tensor, dim: int = 1) -> Tensor:
    """Scale vectors to unit length; a vector of zeros stays zero and gets a zero gradient.

    A head without a last bias returns zeros for an image whose hidden units are all inactive. There
    :func:`torch.nn.functional.normalize` multiplies the gradient by 10¹², and its second derivative, which the loss on
    Grad-CAM needs, is NaN: one such image would turn all weights into NaN. For other vectors the two are the same.

    Args:
        x: Any shape; the vectors lie along ``dim``.
        dim: The dimension to scale over.

    Returns:
        A tensor like ``x``, of unit length along ``dim`` or zero.
    """
    zero = x.detach().norm(dim=dim, keepdim=True) <= _SHORTEST
    return F.normalize(x.masked_fill(zero, 1.0), dim=dim).masked_fill(zero, 0.0)
