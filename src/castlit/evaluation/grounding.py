"""Grounding: how well Grad-CAMs and ground-truth masks agree."""

from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from castlit.attention import has_object, pointing_hits
from castlit.evaluation.protocol import Explain, Results, explain_all
from castlit.nn.checks import InputError


class Grounding(NamedTuple):
    """Means over the images that have a mask, each in [0, 1]."""

    pointing: float
    """Share of CAMs whose maximum lies on the mask."""
    energy: float
    """Share of the CAM's mass that lies inside the mask."""
    iou: float
    """Intersection over union of mask and CAM, averaged over the thresholds 0.05, 0.10, … 0.95 of the CAM's maximum."""
    chance: float
    """What ``pointing`` and ``energy`` would be for a CAM that knows nothing: the mean share of mask pixels."""
    images: int
    """Number of images with a mask."""


def grounding(cams: Tensor, masks: Tensor) -> Grounding:
    """Compare CAMs (N, h, w) with masks (N, 1, H, W), the CAMs scaled up bilinearly to the masks.

    A dead CAM counts 0 everywhere.

    Raises:
        InputError: No image has a mask.
    """
    has_mask = has_object(masks)
    if not has_mask.any():
        raise InputError("grounding needs at least one image with a mask that is not empty")
    cams, masks = cams[has_mask].float(), masks[has_mask]
    inside = (masks[:, 0] > 0).flatten(1)
    scaled = F.interpolate(cams[:, None], masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0].flatten(1)
    mass = scaled.sum(1)
    energy = (scaled * inside).sum(1) / torch.where(mass > 0, mass, torch.ones_like(mass))
    top = scaled.amax(1, keepdim=True)
    overlaps = []
    for step in range(1, 20):
        region = (scaled >= top * step / 20) & (top > 0)
        overlaps.append((region & inside).sum(1) / (region | inside).sum(1))
    return Grounding(
        pointing=pointing_hits(cams, masks).float().mean().item(),
        energy=energy.mean().item(),
        iou=torch.stack(overlaps).mean().item(),
        chance=inside.float().mean().item(),
        images=len(cams),
    )


def evaluate_grounding(explain: Explain, device: torch.device, data: pl.LightningDataModule) -> Results:
    """Compare the Grad-CAMs of a data module's validation images with their masks.

    Args:
        explain: What the network answers, see :data:`castlit.evaluation.protocol.Explain`.
        device: Where the network is.
        data: Its validation batches hold ``image`` and ``mask``.
    """
    data.setup("validate")
    seen = explain_all(explain, data.val_dataloader(), device)
    return {name: float(value) for name, value in grounding(seen.cams, seen.masks)._asdict().items()}
