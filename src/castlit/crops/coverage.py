"""How many salient pixels a box contains: counted in the mask for one box, in a summed-area table for many."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in pixels, half-open: x1 ≤ x < x2, y1 ≤ y < y2."""

BLOCK = 1 << 17
"""Table entries processed together: more would not stay in the processor's cache."""


class Need(NamedTuple):
    """The box must contain at least ``pixels`` (1 or more) of the salient pixels inside ``region``."""

    pixels: int
    region: Box


def pixels_needed(min_coverage: float, count: int) -> int:
    """How many of ``count`` salient pixels make up ``min_coverage`` of them."""
    return math.ceil(min_coverage * count * (1 - 1e-12))  # the factor undoes float noise: 0.2 * 35 = 7.000000000000001


class Mask:
    """Counts the salient pixels of a (H, W) mask of any type, at least 1 × 1; nonzero is salient."""

    def __init__(self, mask: NDArray[np.generic]) -> None:
        self.height: int = mask.shape[0]
        self.width: int = mask.shape[1]
        self.frame: Box = (0, 0, self.width, self.height)
        """The full image as a box."""
        # One-byte pixels need no conversion, whatever their value: True may be stored as 255, which Pillow does. But
        # OpenCV would copy columns that are not adjacent in memory again for each box.
        self._bytes = (np.ascontiguousarray(mask) if mask.dtype.char in "?bB" else mask != 0).view(np.uint8)
        self._tables: dict[Box, CoverageTable] = {}

    def count(self, box: Box) -> int:
        """Number of salient pixels in ``box``, which must lie in the image and not be empty."""
        x1, y1, x2, y2 = box
        return cv2.countNonZero(self._bytes[y1:y2, x1:x2])

    def satisfies(self, box: Box, need: Need) -> bool:
        """Whether ``box`` contains enough salient pixels."""
        pixels, region = need
        x1, y1, x2, y2 = max(box[0], region[0]), max(box[1], region[1]), min(box[2], region[2]), min(box[3], region[3])
        if x1 < x2:
            # Most boxes contain far more than they need, so counting every third row first saves time.
            for first in range(y1, min(y1 + 3, y2)):
                pixels -= cv2.countNonZero(self._bytes[first:y2:3, x1:x2])
                if pixels <= 0:
                    return True
        return False

    def table(self, region: Box) -> "CoverageTable":
        """The table of the salient pixels inside ``region``, built at the first call."""
        if region not in self._tables:
            x1, y1, x2, y2 = region
            salient = np.zeros((self.height, self.width), np.uint8)
            salient[y1:y2, x1:x2] = self._bytes[y1:y2, x1:x2] != 0
            self._tables[region] = CoverageTable(salient)
        return self._tables[region]


class CoverageTable:
    """Counts the pixels in many boxes of a (H, W) uint8 mask of {0, 1}, by its summed-area table."""

    def __init__(self, salient: NDArray[np.uint8]) -> None:
        # table[y, x] is the number of salient pixels above and left of (x, y).
        self._table: NDArray[np.int32] = np.asarray(cv2.integral(salient, sdepth=cv2.CV_32S), np.int32)

    def projections(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Salient pixels left of each x in 0 .. W, and above each y in 0 .. H."""
        return self._table[-1], self._table[:, -1]

    def count(self, boxes: NDArray[np.int64]) -> NDArray[np.int32]:
        """Salient pixels in each of (N, 4) boxes inside the image; (N,)."""
        x1, y1, x2, y2 = boxes.T
        top, bottom = y1 * self._table.shape[1], y2 * self._table.shape[1]
        take = self._table.ravel().take  # faster than indexing with two arrays
        return np.asarray(take(bottom + x2) - take(bottom + x1) - take(top + x2) + take(top + x1))

    def reaches(self, pixels: int, width: int, height: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether boxes of one size contain at least ``pixels``, at all positions with y1 in ``rows``.

        Boxes that would exceed the image at the bottom end there.

        Returns:
            (len(rows), W - width + 1).
        """
        table = self._table
        enough = np.empty((len(rows), table.shape[1] - width), np.bool_)
        step = max(1, BLOCK // table.shape[1])
        for first in range(0, len(rows), step):
            y1 = rows[first : first + step]
            strips = table[np.minimum(y1 + height, len(table) - 1)] - table[y1]
            np.greater_equal(strips[:, width:] - strips[:, :-width], pixels, out=enough[first : first + step])
        return enough
