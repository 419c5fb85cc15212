"""Recognise a ResNet by the names and shapes of its weights."""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from castlit.interop.detectron2_names import COUNTER
from castlit.nn.backbones import build_backbone

FAMILY = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
"""torchvision's names; timm and detectron2 have the same networks with the same shapes."""

_KNOWN = (*FAMILY, "tiny_resnet")


def which_resnet(state: Mapping[str, Tensor]) -> str | None:
    """The backbone whose weights have exactly these names and shapes, without heads; None if there is none."""
    if "conv1.weight" not in state:
        return None
    shapes = {name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTER)}
    return next((name for name in _KNOWN if _shapes(name) == shapes), None)


@cache
def _shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = build_backbone(backbone).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTER)}
