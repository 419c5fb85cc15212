"""Conversion to float32 or wider."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision and integers to float32; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
