"""How many salient pixels a box holds: straight from the mask, or for many boxes from the summed-area table."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in pixels, half-open: x1 ≤ x < x2, y1 ≤ y < y2."""

Boxes = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Many boxes: arrays of x1, y1, x2, y2."""


class Need(NamedTuple):
    """At least ``pixels`` salient ones, 1 or more, must lie in the box and inside ``region``."""

    pixels: int
    region: Box


def pixels_needed(min_coverage: float, count: int) -> int:
    """How many of ``count`` salient pixels make up ``min_coverage`` of them."""
    return math.ceil(min_coverage * count * (1 - 1e-12))  # the factor undoes float noise: 0.2 * 35 = 7.000000000000001


class Mask:
    """Counts the salient pixels of a mask inside single boxes.

    Args:
        mask: (H, W) array of any type, at least 1 × 1; nonzero is salient.
    """

    def __init__(self, mask: NDArray[np.generic]) -> None:
        self.height: int = mask.shape[0]
        self.width: int = mask.shape[1]
        self.frame: Box = (0, 0, self.width, self.height)
        """The whole image as a box."""
        # No copy where a pixel is one byte, of whatever value: even a boolean's need not be 1, Pillow makes it 255. But
        # columns that lie apart in memory would be copied by OpenCV anew for each box.
        self._bytes = (np.ascontiguousarray(mask) if mask.dtype.char in "?bB" else mask != 0).view(np.uint8)

    def count(self, box: Box) -> int:
        """Number of salient pixels in ``box``, which must lie in the image and not be empty."""
        x1, y1, x2, y2 = box
        return cv2.countNonZero(self._bytes[y1:y2, x1:x2])

    def satisfies(self, box: Box, need: Need) -> bool:
        """Whether ``box`` holds what the need asks for."""
        pixels, region = need
        x1, y1, x2, y2 = max(box[0], region[0]), max(box[1], region[1]), min(box[2], region[2]), min(box[3], region[3])
        if x1 < x2:
            # Most boxes hold far more than they must, so every third row often settles it in a third of the time.
            for first in range(y1, min(y1 + 3, y2)):
                pixels -= cv2.countNonZero(self._bytes[first:y2:3, x1:x2])
                if pixels <= 0:
                    return True
        return False

    def table(self) -> "CoverageTable":
        """The table to count in many boxes with."""
        return CoverageTable((self._bytes != 0).view(np.uint8))


class CoverageTable:
    """Counts the salient pixels of a mask inside any number of boxes.

    Args:
        salient: (H, W) uint8 of {0, 1}; 1 is salient.
    """

    def __init__(self, salient: NDArray[np.uint8]) -> None:
        self.height: int = salient.shape[0]
        self.width: int = salient.shape[1]
        # table[y, x] is the number of salient pixels above and left of (x, y).
        self._table: NDArray[np.int32] = np.asarray(cv2.integral(salient, sdepth=cv2.CV_32S), np.int32)
        self._flat = self._table.ravel()

    def columns(self, region: Box) -> NDArray[np.int32]:
        """For each x in 0 .. W, the number of salient pixels left of it, inside ``region``; (W + 1,)."""
        x1, y1, x2, y2 = region
        left: NDArray[np.int32] = self._table[y2] - self._table[y1]
        return np.asarray(left[np.clip(np.arange(self.width + 1), x1, x2)] - left[x1])

    def rows(self, region: Box) -> NDArray[np.int32]:
        """For each y in 0 .. H, the number of salient pixels above it, inside ``region``; (H + 1,)."""
        x1, y1, x2, y2 = region
        above: NDArray[np.int32] = self._table[:, x2] - self._table[:, x1]
        return np.asarray(above[np.clip(np.arange(self.height + 1), y1, y2)] - above[y1])

    def satisfy(self, boxes: Boxes, needs: list[Need]) -> NDArray[np.bool_]:
        """Which boxes hold what every need asks for; (N,). They must lie in the image and not be empty."""
        satisfied = np.ones(len(boxes[0]), np.bool_)
        for pixels, region in needs:
            satisfied &= self._count(boxes, region) >= pixels
        return satisfied

    def satisfy_at(self, width: int, height: int, xs: range, ys: range, needs: list[Need]) -> NDArray[np.bool_]:
        """Whether the boxes of one size at all starts in ``xs`` × ``ys`` satisfy every need; (Y, X)."""
        satisfied = np.ones((len(ys), len(xs)), np.bool_)
        for pixels, (x1, y1, x2, y2) in needs:
            left, right = _edges(xs, width, x1, x2)
            top, bottom = _edges(ys, height, y1, y2)
            above, below = self._table[top], self._table[bottom]
            counts = below[:, right] - above[:, right]
            counts -= below[:, left]
            counts += above[:, left]
            satisfied &= counts >= pixels
        return satisfied

    def _count(self, boxes: Boxes, region: Box) -> NDArray[np.int32]:
        x1, y1, x2, y2 = boxes
        if region != (0, 0, self.width, self.height):
            x1, x2 = (np.clip(x, region[0], region[2]) for x in (x1, x2))
            y1, y2 = (np.clip(y, region[1], region[3]) for y in (y1, y2))
        top, bottom = y1 * (self.width + 1), y2 * (self.width + 1)
        take = self._flat.take
        counts: NDArray[np.int32] = take(bottom + x2) - take(bottom + x1) - take(top + x2) + take(top + x1)
        return counts


def _edges(starts: range, length: int, low: int, high: int) -> list[slice] | list[NDArray[np.int64]]:
    """Where boxes begin and end along one axis, cut to low .. high."""
    if low <= starts.start and starts.stop - 1 + length <= high:
        return [slice(starts.start + shift, starts.stop + shift) for shift in (0, length)]  # ten times faster
    return [np.clip(np.arange(starts.start, starts.stop) + shift, low, high) for shift in (0, length)]
