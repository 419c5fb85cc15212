"""Numbers in float32 or wider."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Raise half precision and whole numbers to float32; leave float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
