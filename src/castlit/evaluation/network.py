"""A checkpoint as protocols see it."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

Explain = Callable[..., tuple[Tensor, Tensor]]
"""From normalised images (N, 3, H, W) and masks (N, 1, H, W) to features (N, C) and CAMs (N, h, w).

Two more arguments, images and masks of the same shapes, are the keys in place of the images' own.
"""


class Network(NamedTuple):
    """A checkpoint, opened."""

    name: str
    """As typed."""
    backbone: nn.Module
    """In evaluation mode, on its device: normalised images (N, 3, H, W) to a feature map (N, C, h, w)."""
    explain: Explain | None
    """None unless it is a checkpoint of castlit's training."""
