"""How well CAMs and ground-truth masks agree."""

from typing import NamedTuple

import torch
from torch import Tensor

from castlit.attention import enlarge_cams, has_object, pointing_hits
from castlit.attention.loss import check_shapes, peak_one
from castlit.utils.validation import InputError

NO_MASK = "grounding needs at least one image with a mask that is not empty"


class Grounding(NamedTuple):
    """Means over the images that have a mask, each in [0, 1]."""

    pointing: float
    """Fraction of CAMs whose maximum lies on the mask, see :func:`castlit.attention.pointing_hits`."""
    energy: float
    """Fraction of the CAM's mass inside the mask."""
    iou: float
    """Intersection over union of mask and CAM, averaged over the thresholds 0.05, 0.10, … 0.95 of the CAM's maximum."""
    chance: float
    """``pointing`` and ``energy`` of an uninformative CAM: the mean fraction of mask pixels."""
    images: int
    """Number of images with a mask."""


class ImageScores(NamedTuple):
    """The same metrics for each image that has a mask, (N,) float32 each."""

    pointing: Tensor
    energy: Tensor
    iou: Tensor
    chance: Tensor

    def mean(self) -> Grounding:
        """Average over the images."""
        pointing, energy, iou, chance = (metric.double().mean().item() for metric in self)
        return Grounding(pointing, energy, iou, chance, images=len(self.pointing))


def image_scores(cams: Tensor, masks: Tensor) -> ImageScores:
    """Compare CAMs (N, h, w) with masks (N, 1, H, W), none of them empty.

    Each metric is that of the CAM resized bilinearly to the mask. A CAM of zeros scores 0.

    Raises:
        InputError: The shapes disagree, or a CAM is negative or not finite somewhere.
    """
    check_shapes(cams, masks)
    if not bool(((cams >= 0) & cams.isfinite()).all()):
        raise InputError("grounding needs CAMs that are finite and not negative: are the weights damaged?")
    inside = (masks[:, 0] > 0).flatten(1)
    scaled = enlarge_cams(peak_one(cams), masks.shape[-2:]).flatten(1)
    mass = scaled.sum(1)
    energy = (scaled * inside).sum(1) / torch.where(mass > 0, mass, torch.ones_like(mass))
    top = scaled.amax(1, keepdim=True)
    overlaps = []
    for step in range(1, 20):
        region = (scaled >= top * step / 20) & (top > 0)
        overlaps.append((region & inside).sum(1) / (region | inside).sum(1))
    pointing = pointing_hits(cams, masks).float()
    return ImageScores(pointing, energy, torch.stack(overlaps).mean(0), inside.float().mean(1))


def grounding(cams: Tensor, masks: Tensor) -> Grounding:
    """Compare CAMs (N, h, w) with masks (N, 1, H, W), as :func:`image_scores` does; images without a mask are left out.

    Raises:
        InputError: No image has a mask; or as in :func:`image_scores`.
    """
    check_shapes(cams, masks)
    has_mask = has_object(masks)
    if not has_mask.any():
        raise InputError(NO_MASK)
    return image_scores(cams[has_mask], masks[has_mask]).mean()
