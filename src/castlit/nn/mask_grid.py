"""What a mask's pixels count, and masks on a feature map's grid."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what each pixel of a mask counts, in [0, 1].

    Args:
        mask: Any shape. Floats are weights, and more than 1 counts as 1; of any other type, pixels over 0 count 1, so
            that bytes of 255 and numbers of objects are the same as booleans.
        dtype: Of the result, floating.
    """
    return (mask.clamp(max=1) if mask.is_floating_point() else mask > 0).to(dtype)


def mask_grid(mask: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Average a mask (N, 1, H, W) over the cells of a grid ``size`` = (h, w): (N, 1, h, w).

    Cells are those of ``torch.nn.functional.adaptive_avg_pool2d``: where ``size`` does not divide the mask's sides,
    neighbours share their edge pixels.
    """
    return F.adaptive_avg_pool2d(mask_weights(mask, dtype), size)
