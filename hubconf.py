"""Backbones through ``torch.hub``, from a clone as it is: castlit need not be installed."""

import sys
from pathlib import Path

from torch import nn

dependencies = ["torch", "torchvision", "numpy"]


def backbone(checkpoint: str = "random", backbone: str | None = None) -> nn.Module:
    """A backbone with a checkpoint's weights, in evaluation mode.

    It takes images (N, 3, H, W), normalised by ImageNet's mean and standard deviation, and gives a feature map
    (N, C, h, w). ``torch.hub.load("path/of/this/clone", "backbone", checkpoint="last.ckpt", source="local")``.

    Args:
        checkpoint: A file on this machine, of castlit's or any program that ``castlit.interop`` reads, or "random".
        backbone: The backbone's name, where the file does not tell.
    """
    try:
        from castlit.interop import open_backbone
    except ImportError:
        sys.path.insert(0, str(Path(__file__).parent / "src"))
        from castlit.interop import open_backbone
    return open_backbone(checkpoint, backbone)
