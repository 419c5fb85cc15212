"""Random views of images and their maps, for a batch at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 0.7
"""Smallest side of a crop, as a fraction of the image's."""

COLOUR = 0.2
"""Largest change of brightness, contrast and saturation."""


def augment(images: Tensor, maps: Tensor, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip, crop, stretch and change colours, independently for each image; its maps follow.

    Args:
        images: (N, 3, H, W), in [0, 1].
        maps: (N, K, H, W), in [0, 1].
        size: S, the side of the views.
        rng: Random generator on the CPU.

    Returns:
        Views (N, 3, S, S) and their maps (N, K, S, S).
    """
    count = len(images)
    draws = torch.rand(count, 8, generator=rng).to(images.device)
    scale = SMALLEST + (1 - SMALLEST) * draws[:, :2]
    shift = (1 - scale) * (2 * draws[:, 2:4] - 1)
    flip = torch.where(draws[:, 4] < 0.5, -1.0, 1.0)
    place = torch.zeros(count, 2, 3, device=images.device)
    place[:, 0, 0], place[:, 1, 1], place[:, :, 2] = scale[:, 0] * flip, scale[:, 1], shift
    grid = F.affine_grid(place, [count, 1, size, size], align_corners=False)
    both = F.grid_sample(torch.cat([images, maps], 1), grid, padding_mode="border", align_corners=False)
    seen, targets = both[:, : images.shape[1]], both[:, images.shape[1] :]
    factors = (1 + COLOUR * (2 * draws[:, 5:8] - 1)).view(count, 3, 1, 1, 1)
    brightness, contrast, saturation = factors[:, 0], factors[:, 1], factors[:, 2]
    grey = seen.mean(1, keepdim=True)
    seen = (grey + saturation * (seen - grey)) * brightness
    level = seen.mean((1, 2, 3), keepdim=True)
    return (level + contrast * (seen - level)).clamp(0, 1), targets
