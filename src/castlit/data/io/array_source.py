"""A source of images in memory."""

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.source import Item


class ArraySource:
    """Images, masks and labels in memory.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W), nonzero is salient.
        labels: (N,) whole numbers, or None.
    """

    def __init__(
        self, images: NDArray[np.uint8], masks: NDArray[np.uint8], labels: NDArray[np.int64] | None = None
    ) -> None:
        self.images, self.masks, self.labels = images, masks, labels

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Item:
        """Image, mask and label ``index``."""
        label = None if self.labels is None else int(self.labels[index])
        return Item(self.images[index], self.masks[index], label)

    def give_up(self, index: int, error: SampleError) -> None:
        """Raise the error: arrays in memory are never left out."""
        raise error
