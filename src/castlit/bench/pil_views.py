"""The baseline: MoCo's two views with their masks, by PIL and torchvision as in its official code."""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as F

from castlit.data import MEAN, STD

View = tuple[Tensor, Tensor]
"""Image (3, size, size) float32 and mask (1, size, size) uint8."""


class _Blur:
    """Gaussian blur of random strength (Chen et al., arXiv 2003.04297; sigma from SimCLR)."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class PilViews:
    """Reads an image and its mask and makes MoCo v2's two views. Crops are unconstrained, which is less work.

    Args:
        size: Side of the views in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = [size, size]
        self.colours = transforms.Compose(
            [
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.RandomApply([_Blur()], p=0.5),
            ]
        )
        self.finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __call__(self, image_path: Path, mask_path: Path) -> tuple[View, View]:
        """The two views."""
        with Image.open(image_path) as file:
            image = file.convert("RGB")
        with Image.open(mask_path) as file:
            mask = file.convert("L")
        return self._view(image, mask), self._view(image, mask)

    def _view(self, image: Image.Image, mask: Image.Image) -> View:
        box = transforms.RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3])
        view = F.resized_crop(image, *box, self.size)
        small = F.resized_crop(mask, *box, self.size, interpolation=F.InterpolationMode.NEAREST)
        view = self.colours(view)
        if random.random() < 0.5:
            view, small = F.hflip(view), F.hflip(small)
        return self.finish(view), torch.from_numpy((np.asarray(small) > 128).astype(np.uint8))[None]


def pil_batch(views: PilViews, paths: list[tuple[Path, Path]]) -> tuple[Tensor, ...]:
    """Queries, keys (N, 3, size, size) and their masks (N, 1, size, size)."""
    made = [query + key for query, key in (views(*pair) for pair in paths)]
    return tuple(torch.stack(parts) for parts in zip(*made, strict=True))
