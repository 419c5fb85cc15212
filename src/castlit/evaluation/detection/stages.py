"""Split a ResNet into the stages that a detector reads."""

import copy
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from castlit.utils.validation import InputError

LAYERS = ("layer1", "layer2", "layer3", "layer4")


class Stages(NamedTuple):
    """A copy of a backbone in parts; run in order, they compute what it computes."""

    parts: "OrderedDict[str, nn.Module]"
    """All children up to ``layer4`` by name, in order."""
    channels: tuple[int, ...]
    """Output channels of ``layer1`` … ``layer4``."""
    strides: tuple[int, ...]
    """Stride of each in pixels."""

    def upto(self, last: str) -> nn.Sequential:
        """Return the parts up to and including one of them."""
        names = list(self.parts)
        return nn.Sequential(OrderedDict((name, self.parts[name]) for name in names[: names.index(last) + 1]))


def stages(backbone: nn.Module, name: str = "the backbone") -> Stages:
    """Copy a backbone and split it; all of the copy is trainable and in training mode.

    Args:
        backbone: Images (N, 3, H, W) to a feature map (N, C, h, w), with the children ``layer1`` … ``layer4`` of
            torchvision's ResNets: resnet18 to resnet152, wide and NeXt, ``tiny_resnet``, and timm's ResNets.
        name: What messages call it.

    Raises:
        InputError: It has no such stages, or computes more than them.
    """
    # Lightning moves it to the device of each process.
    backbone = copy.deepcopy(backbone).cpu()
    children = OrderedDict(backbone.named_children())
    names = list(children)
    if any(layer not in children for layer in LAYERS):
        raise InputError(
            f"{name} is no ResNet: detectors read the stages layer1 to layer4, and it has {', '.join(names[:6])}; "
            "take a checkpoint with a ResNet (backbone=resnet50, resnet18, tiny_resnet, ...)"
        )
    parts = OrderedDict((part, children[part]) for part in names[: names.index(LAYERS[-1]) + 1])
    channels, strides = _shapes(backbone, parts, name)
    backbone.train()
    for parameter in backbone.parameters():
        parameter.requires_grad_(True)
    return Stages(parts, channels, strides)


@torch.no_grad()
def _shapes(
    backbone: nn.Module, parts: "OrderedDict[str, nn.Module]", name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Measure channels and strides of the layers; check that the parts in order are the full network."""
    backbone.eval()
    parameter = next(backbone.parameters())
    side = 128
    image = torch.linspace(-2, 2, 3 * side * side, device=parameter.device, dtype=parameter.dtype)
    image = image.view(1, 3, side, side).roll(17, dims=3)
    features: Tensor = image
    found = {}
    for part, module in parts.items():
        features = module(features)
        if part in LAYERS:
            found[part] = features
    full = backbone(image)
    if full.shape != features.shape or not torch.allclose(full, features, rtol=1e-3, atol=1e-4):
        raise InputError(f"{name} computes more than its parts up to layer4 in a row: a detector cannot take it apart")
    channels = tuple(found[layer].shape[1] for layer in LAYERS)
    return channels, tuple(side // found[layer].shape[-1] for layer in LAYERS)
