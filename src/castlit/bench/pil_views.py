"""The yardstick: MoCo's two views, written with PIL and torchvision as its official code does."""

import random
from pathlib import Path

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms

from castlit.data import MEAN, STD


class _Blur:
    """Gaussian blur of random strength (Chen et al., arXiv 2003.04297; sigma from SimCLR)."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class PilViews:
    """Reads an image and makes MoCo v2's two views of it. No masks: less work than castlit's views are.

    Args:
        size: Side of the views in pixels.
    """

    def __init__(self, size: int) -> None:
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.RandomApply([_Blur()], p=0.5),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __call__(self, path: Path) -> tuple[Tensor, Tensor]:
        """Two views (3, size, size), float32."""
        with Image.open(path) as file:
            image = file.convert("RGB")
        return self.transform(image), self.transform(image)


def pil_batch(views: PilViews, paths: list[Path]) -> tuple[Tensor, Tensor]:
    """Two batches (N, 3, size, size) of views."""
    made = [views(path) for path in paths]
    return torch.stack([query for query, _ in made]), torch.stack([key for _, key in made])
