"""Masks whose levels are grey: brighter is more salient."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.mask_fit import Mask
from castlit.data.io.mask_pixels import MaskPixels


class Levels(NamedTuple):
    """Levels of a mask."""

    values: NDArray[Any]
    """(h, w): uint8, uint16, floats in [0, 1] or booleans."""
    full: int
    """The full level; 1 for floats, booleans, and integers of only 0 and 1."""

    def above(self, threshold: float) -> Mask:
        """(h, w) of {0, 1}: where they exceed this fraction of the full level; the full level always does."""
        if self.values.dtype == np.bool_:
            return np.asarray(self.values, np.uint8)
        if self.full == 1:
            return np.asarray((self.values > threshold) | (self.values == 1), np.uint8)
        cut = self.cut(threshold)
        if self.values.dtype == np.uint8:
            return np.asarray(cv2.threshold(self.values, cut, 1, cv2.THRESH_BINARY)[1], np.uint8)
        return np.asarray(self.values > cut, np.uint8)

    def cut(self, threshold: float) -> int:
        """The highest integer level that is not salient: above x is above floor(x)."""
        return min(int(threshold * self.full + 1e-9), self.full - 1)

    @property
    def soft(self) -> NDArray[np.float32]:
        """(h, w) in [0, 1]."""
        return np.asarray(self.values.astype(np.float32) / np.float32(self.full), np.float32)


def read_levels(pixels: MaskPixels, name: str) -> Levels:
    """The levels of a mask: of its alpha channel, if it has one, otherwise of its pixels; colours by their luma.

    Raises:
        SampleError: Values are out of range, or no numbers; the message gives the name.
    """
    if pixels.alpha is not None:
        return _checked(pixels.alpha, name)
    values, palette = pixels.values, pixels.palette
    if palette is not None:
        return _checked(np.asarray(cv2.cvtColor(palette[None], cv2.COLOR_RGB2GRAY))[0, values], name)
    levels = _checked(values, name)
    if values.ndim == 2:
        return levels
    colours = levels.values.astype(np.float32) if levels.values.dtype == np.float64 else levels.values
    return Levels(np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)), levels.full)


def _checked(values: NDArray[Any], name: str) -> Levels:
    if values.dtype == np.bool_:
        return Levels(values, 1)
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise SampleError(
                f"{name}: a soft mask must have values in [0, 1], got {values.min():g} to {values.max():g}; if they "
                "are numbers of classes or objects, set mask_kind=labels"
            )
        return Levels(values, 1)
    if not np.issubdtype(values.dtype, np.integer):
        raise SampleError(f"{name}: a mask must have numbers, got {values.dtype}")
    low, high = int(values.min()), int(values.max())
    full = 65535 if values.dtype == np.uint16 else 255
    if low < 0 or high > full:
        raise SampleError(
            f"{name}: a mask of {values.dtype} must have levels from 0 to {full}, got {low} to {high}; if they are "
            "numbers of classes or objects, set mask_kind=labels"
        )
    values = values if values.dtype == np.uint16 else values.astype(np.uint8, copy=False)
    return Levels(values, 1 if high <= 1 else full)
