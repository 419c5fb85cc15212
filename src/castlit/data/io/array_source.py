"""A source of images in memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.source import Item
from castlit.utils.validation import InputError


class ArraySource:
    """Images, masks and labels in memory.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W) uint8 or booleans, nonzero is salient; None: no image has one.
        labels: (N,) whole numbers, or None.

    Raises:
        InputError: An array has another shape or type.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        masks: NDArray[np.uint8] | NDArray[np.bool_] | None = None,
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        _require("images", images, "(N, H, W, 3) of uint8", images.shape[3:] == (3,) and images.dtype == np.uint8)
        if masks is not None:
            fits = masks.shape == images.shape[:3] and masks.dtype in (np.uint8, np.bool_)
            _require("masks", masks, f"{images.shape[:3]} of uint8 or booleans", fits)
            masks = masks.view(np.uint8)
        if labels is not None:
            _require("labels", labels, f"({len(images)},) whole numbers", np.shape(labels) == (len(images),))
        self.images, self.masks, self.labels = images, masks, labels

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Item:
        """Image, mask and label ``index``."""
        label = None if self.labels is None else int(self.labels[index])
        return Item(self.images[index], None if self.masks is None else self.masks[index], label)

    def give_up(self, index: int, error: SampleError) -> None:
        """Raise the error: arrays in memory are never left out."""
        raise error


def _require(name: str, array: NDArray[Any], wanted: str, fits: bool) -> None:
    if not fits:
        found = f"{tuple(array.shape)} of {getattr(array, 'dtype', type(array).__name__)}"
        raise InputError(f"ArraySource: {name} must be {wanted}; got {found}")
