"""What protocols share: the question they ask a network, and the answer's form."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

Explain = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From normalised images (N, 3, H, W) and masks (N, 1, H, W) to features (N, C) and CAMs (N, h, w)."""


class Network(NamedTuple):
    """A checkpoint, opened."""

    name: str
    """As it was typed."""
    backbone: nn.Module
    """In evaluation mode, on its device: normalised images (N, 3, H, W) to a feature map (N, C, h, w)."""
    explain: Explain | None
    """None where it is no checkpoint of castlit's training."""


class Explained(NamedTuple):
    """A data set as the network sees it, on the CPU."""

    features: Tensor
    """(N, C)."""
    cams: Tensor
    """(N, h, w)."""
    masks: Tensor
    """(N, 1, H, W)."""


def explain_all(explain: Explain, batches: Iterable[Mapping[str, Tensor]], device: torch.device) -> Explained:
    """Explain every validation batch (``image``, ``mask``)."""
    parts = []
    for batch in batches:
        features, cams = explain(batch["image"].to(device), batch["mask"].to(device))
        parts.append((features.float().cpu(), cams.float().cpu(), batch["mask"]))
    return Explained(*(torch.cat(column) for column in zip(*parts, strict=True)))
