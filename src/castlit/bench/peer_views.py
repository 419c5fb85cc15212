"""Other libraries' pipelines for MoCo v2's two views, each as its documentation writes it and with castlit's defaults.

Crops are unconstrained, which is less work than castlit's.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from castlit.data import MEAN, STD

Batch = tuple[Tensor, ...]
"""Queries and keys, (N, 3, size, size) float32; where masks are asked for, also theirs, (N, 1, size, size) uint8."""
Paths = list[tuple[Path, Path]]
"""Files of images and of their masks."""

_SCALE, _RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
_SALIENT = 128
_BLUR = (0.1, 2.0)


def peer_views(size: int) -> dict[str, Callable[[Paths], Batch]]:
    """The pipelines that make a batch, by name; those of libraries that are not installed are missing.

    Args:
        size: Side of the views in pixels.
    """
    peers: dict[str, Callable[[Paths], Batch]] = {
        "torchvision_v2": TorchvisionViews(size),
        "albumentations_masks": AlbumentationsViews(size, masks=True),
        "albumentations": AlbumentationsViews(size, masks=False),
    }
    if find_spec("lightly") is not None:
        peers["lightly"] = LightlyViews(size)
    return peers


class LightlyViews:
    """lightly's ``MoCoV2Transform``, on PIL images. It has no masks.

    Args:
        size: Side of the views in pixels.
    """

    def __init__(self, size: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its imports
            from lightly.transforms.moco_transform import MoCoV2Transform
        self.transform = MoCoV2Transform(input_size=size)

    def __call__(self, paths: Paths) -> Batch:
        """Queries and keys."""
        pairs = []
        for path, _ in paths:
            with Image.open(path) as file:
                pairs.append(self.transform(file.convert("RGB")))
        return _stack(pairs)


class TorchvisionViews:
    """torchvision's v2 transforms on bytes in tensors, with masks.

    PIL decodes, as torchvision's own decoder is deprecated.

    Args:
        size: Side of the views in pixels.
    """

    def __init__(self, size: int) -> None:
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, _SCALE, _RATIO, antialias=True),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                v2.RandomGrayscale(p=0.2),
                # 13 pixels hold three standard deviations of the strongest blur.
                v2.RandomApply([v2.GaussianBlur(13, _BLUR)], p=0.5),
                v2.RandomHorizontalFlip(p=0.5),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __call__(self, paths: Paths) -> Batch:
        """Queries, keys and their masks."""
        made = []
        for path, mask_path in paths:
            with Image.open(path) as file:
                image = v2.functional.to_image(file.convert("RGB"))
            with Image.open(mask_path) as file:
                mask = tv_tensors.Mask((v2.functional.pil_to_tensor(file.convert("L")) > _SALIENT).to(torch.uint8))
            (query, query_mask), (key, key_mask) = self.transform(image, mask), self.transform(image, mask)
            made.append((query, key, query_mask, key_mask))
        return _stack(made)


class AlbumentationsViews:
    """A plain pipeline of albumentations, on arrays that OpenCV reads.

    Args:
        size: Side of the views in pixels.
        masks: Whether to make the masks, too.
    """

    def __init__(self, size: int, masks: bool) -> None:
        import albumentations as A  # takes half a second, which the other benchmarks do not need
        from albumentations.pytorch import ToTensorV2

        self.masks = masks
        self.transform: Callable[..., dict[str, Any]] = A.Compose(
            [
                A.RandomResizedCrop((size, size), scale=_SCALE, ratio=_RATIO),
                A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=0.8),
                A.ToGray(p=0.2),
                A.GaussianBlur(blur_limit=0, sigma_limit=_BLUR, p=0.5),
                A.HorizontalFlip(p=0.5),
                A.Normalize(MEAN, STD),
                ToTensorV2(),
            ]
        )

    def __call__(self, paths: Paths) -> Batch:
        """Queries and keys; with ``masks``, also their masks."""
        made = []
        for path, mask_path in paths:
            inputs: dict[str, Any] = {"image": cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)}
            if self.masks:
                levels = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE)
                inputs["mask"] = (np.asarray(levels) > _SALIENT).view(np.uint8)
            query, key = self.transform(**inputs), self.transform(**inputs)
            views = [query["image"], key["image"]]
            if self.masks:
                views += [query["mask"][None], key["mask"][None]]
            made.append(tuple(views))
        return _stack(made)


def _stack(samples: list[Any]) -> Batch:
    return tuple(torch.stack([torch.as_tensor(part) for part in parts]) for parts in zip(*samples, strict=True))
