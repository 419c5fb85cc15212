"""How much of a mask any box covers, in constant time: the summed-area table."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in pixels, half-open: x1 ≤ x < x2, y1 ≤ y < y2."""

QUICK_TRIES = 8
"""Random positions tried before all positions are enumerated; the result has the same distribution either way."""


class Need(NamedTuple):
    """At least ``pixels`` salient ones must lie in the box and inside ``region`` (half-open box)."""

    pixels: int
    region: Box


class CoverageTable:
    """Counts the salient pixels of a mask inside boxes.

    Args:
        mask: (H, W) array of any type; nonzero is salient.
    """

    def __init__(self, mask: NDArray[np.generic]) -> None:
        self.height, self.width = mask.shape
        salient = mask.view(np.uint8) if mask.dtype == np.bool_ else (mask != 0).view(np.uint8)
        # table[y, x] is the number of salient pixels above and left of (x, y).
        self.table: NDArray[np.int32] = np.asarray(cv2.integral(salient, sdepth=cv2.CV_32S))
        self.total = int(self.table[-1, -1])

    @property
    def frame(self) -> Box:
        """The whole image as a box."""
        return (0, 0, self.width, self.height)

    def count(self, box: Box) -> int:
        """Number of salient pixels in ``box``, which must lie in the image."""
        x1, y1, x2, y2 = box
        table = self.table
        return int(table[y2, x2]) - int(table[y1, x2]) - int(table[y2, x1]) + int(table[y1, x1])

    def need(self, min_coverage: float, region: Box) -> Need:
        """What a box must hold to cover ``min_coverage`` of the salient pixels inside ``region``."""
        # The factor undoes float noise such as 0.2 * 35 = 7.000000000000001.
        return Need(math.ceil(min_coverage * self.count(region) * (1 - 1e-12)), region)

    def satisfies(self, box: Box, needs: list[Need]) -> bool:
        """Whether ``box`` holds what every need asks for."""
        return all(self.count(_clip(box, region)) >= pixels for pixels, region in needs)

    def place(self, width: int, height: int, needs: list[Need], rng: np.random.Generator) -> Box | None:
        """Draw a box of this size uniformly among all its positions that satisfy ``needs``.

        A few independent draws come first, as most masks accept most positions: the first accepted one is uniform
        over the valid positions. Only when all fail are the valid positions listed, and one of them drawn.

        Returns:
            The box, or None where no position satisfies ``needs``.
        """
        free_x, free_y = self.width - width + 1, self.height - height + 1
        if not needs:
            return self._box(int(rng.integers(free_x)), int(rng.integers(free_y)), width, height)
        if any(width * height < need.pixels for need in needs):
            return None
        for u, v in rng.random((QUICK_TRIES, 2)).tolist():
            box = self._box(int(u * free_x), int(v * free_y), width, height)
            if self.satisfies(box, needs):
                return box
        xs, ys = self.positions(width, height, needs)
        if len(xs) == 0:
            return None
        pick = int(rng.integers(len(xs)))
        return self._box(int(xs[pick]), int(ys[pick]), width, height)

    def fits(self, width: int, height: int, needs: list[Need]) -> bool:
        """Whether any position of a box of this size satisfies ``needs``."""
        if any(width * height < need.pixels for need in needs):
            return False
        return len(self.positions(width, height, needs)[0]) > 0

    def positions(self, width: int, height: int, needs: list[Need]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All top-left corners (xs, ys) of boxes of this size inside the image that satisfy ``needs``."""
        x_low, x_high, y_low, y_high = 0, self.width - width, 0, self.height - height
        for need in needs:
            # A box holds enough only if the full-height and full-width strips through it do: this leaves a small
            # window of candidates where the mask is small, which is where enumeration is needed.
            a, b = self._strip_limits(self.table[-1], width, need.pixels)
            x_low, x_high = max(x_low, a), min(x_high, b)
            a, b = self._strip_limits(self.table[:, -1], height, need.pixels)
            y_low, y_high = max(y_low, a), min(y_high, b)
        if x_low > x_high or y_low > y_high:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        valid = np.ones((y_high - y_low + 1, x_high - x_low + 1), np.bool_)
        for need in needs:
            valid &= self._counts(x_low, x_high, y_low, y_high, width, height, need.region) >= need.pixels
        flat = np.flatnonzero(valid)
        ys, xs = np.divmod(flat, valid.shape[1])
        return xs + x_low, ys + y_low

    def _counts(
        self, x_low: int, x_high: int, y_low: int, y_high: int, width: int, height: int, region: Box
    ) -> NDArray[np.int32]:
        if region == self.frame:  # plain slices, the fast path
            rows = self.table[y_low + height : y_high + height + 1] - self.table[y_low : y_high + 1]
            counts: NDArray[np.int32] = rows[:, x_low + width : x_high + width + 1] - rows[:, x_low : x_high + 1]
            return counts
        ys = np.arange(y_low, y_high + 1)
        xs = np.arange(x_low, x_high + 1)
        x1, y1, x2, y2 = region
        rows = self.table[np.clip(ys + height, y1, y2)] - self.table[np.clip(ys, y1, y2)]
        counts = rows[:, np.clip(xs + width, x1, x2)] - rows[:, np.clip(xs, x1, x2)]
        return counts

    @staticmethod
    def _strip_limits(cumulative: NDArray[np.int32], length: int, count: int) -> tuple[int, int]:
        """Lowest and highest start of a strip of ``length`` that may hold ``count`` (necessary, not sufficient)."""
        first_end = int(np.searchsorted(cumulative, count, side="left"))
        last_start = int(np.searchsorted(cumulative, int(cumulative[-1]) - count, side="right")) - 1
        return first_end - length, last_start

    @staticmethod
    def _box(x: int, y: int, width: int, height: int) -> Box:
        return (x, y, x + width, y + height)


def _clip(box: Box, region: Box) -> Box:
    """The part of ``box`` inside ``region``; of zero area where they do not meet."""
    x1, y1 = max(box[0], region[0]), max(box[1], region[1])
    return (x1, y1, max(x1, min(box[2], region[2])), max(y1, min(box[3], region[3])))
