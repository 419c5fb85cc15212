"""Scenes in several crops, large and small, each with its mask: the data of dino.py and swav.py.

Every crop holds a part of the object (``SaliencyCrop``). Replace ``Scenes`` by your own images and masks.
"""

import albumentations as A
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from castlit.crops import SaliencyCrop
from castlit.data import collate
from castlit.data.scenes import Scenes


class SeveralCrops(Dataset[dict[str, NDArray[np.uint8]]]):
    """Two large crops of each scene, and some small ones.

    Args:
        count: Number of scenes.
        large: Side of the large crops in pixels.
        small: Side of the small ones.
        small_count: How many there are of them.
    """

    def __init__(self, count: int, large: int = 64, small: int = 32, small_count: int = 4) -> None:
        self.scenes = Scenes(count)
        colours = [A.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), A.ToGray(p=0.2), A.HorizontalFlip(p=0.5)]
        one = A.Compose([SaliencyCrop(large, scale=(0.4, 1.0)), *colours])
        other = A.Compose([SaliencyCrop(small, scale=(0.1, 0.4)), *colours])
        self.views = [one, one, *[other] * small_count]

    def __len__(self) -> int:
        return len(self.scenes.images)

    def __getitem__(self, index: int) -> dict[str, NDArray[np.uint8]]:
        """``view_0``, ``view_1``, …: (side, side, 3), large ones first; ``mask_0``, …: (side, side) of {0, 1}."""
        image, mask = self.scenes.images[index], self.scenes.masks[index]
        made = [view(image=image, mask=mask) for view in self.views]
        views = {f"view_{i}": each["image"] for i, each in enumerate(made)}
        return {**views, **{f"mask_{i}": each["mask"] for i, each in enumerate(made)}}


def loader(count: int, batch_size: int) -> DataLoader[dict[str, NDArray[np.uint8]]]:
    """Shuffled batches: views (N, 3, side, side), normalised, and masks (N, 1, side, side)."""
    return DataLoader(SeveralCrops(count), batch_size, shuffle=True, drop_last=True, collate_fn=collate)


def views_of(batch: dict[str, Tensor]) -> list[Tensor]:
    """The views of a batch, large ones first."""
    return [view for name, view in batch.items() if name.startswith("view")]
