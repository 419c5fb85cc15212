"""Conversion to float32 or wider, and autocast on any device."""

from contextlib import nullcontext

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision and integers to float32; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for a device; never on one that has none, such as ``meta``."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> torch.autocast | nullcontext[None]:
    """Return a context in which autocast is off for a device, which need not have any, such as ``meta``."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()
