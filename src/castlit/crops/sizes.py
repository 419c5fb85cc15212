"""Which box sizes ``scale`` and ``ratio`` allow in one image, and how one of them is drawn."""

import math
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError, require_number

TOLERANCE = 1e-9
"""Relative slack of all comparisons with ``scale`` and ``ratio``, against float noise such as 0.2 * 35 > 7."""


class Sizes(NamedTuple):
    """The sizes w × h with areas[0] ≤ w·h ≤ areas[1] and ratios[0] ≤ w/h ≤ ratios[1] that fit one image."""

    width: int
    """Of the image, in pixels."""
    height: int
    areas: tuple[float, float]
    """Smallest and largest area of a box in pixels."""
    ratios: tuple[float, float]
    only: int | None = None
    """If given, the one width allowed."""

    @classmethod
    def of(cls, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]) -> "Sizes":
        """The sizes whose share of the image area lies in ``scale`` and whose width / height lies in ``ratio``."""
        # No ratio beyond the image's own extremes changes anything, but it might overflow.
        near, far = (min(max(value, 0.5 / height), 2.0 * width) for value in ratio)
        return cls(width, height, (scale[0] * width * height, scale[1] * width * height), (near, far))

    def whole_areas(self) -> tuple[int, int]:
        """Smallest and largest area in whole pixels, at least 1 and at most the image; the first may be greater."""
        low, high = self.areas
        return max(1, math.ceil(low * (1 - TOLERANCE))), min(self.width * self.height, int(high * (1 + TOLERANCE)))

    def heights(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each width 0 .. ``width``, the least and the greatest height; least > greatest where there is none.

        Both are within 1 .. ``height`` wherever there is a height.
        """
        widths = np.arange(1, self.width + 1)
        least, most = self.whole_areas()
        ratio_low, ratio_high = self.ratios
        low = np.maximum(np.ceil(widths * ((1 - TOLERANCE) / ratio_high)), -(-least // widths))
        high = np.minimum(np.floor(widths * ((1 + TOLERANCE) / ratio_low)), most // widths)
        low = np.append(1, np.clip(low, 1, self.height + 1).astype(np.int64))
        high = np.append(0, np.clip(high, 0, self.height).astype(np.int64))
        if self.only is not None:
            low[: self.only], low[self.only + 1 :] = self.height + 1, self.height + 1
        return low, high

    def any(self) -> tuple[int, int] | None:
        """Some (width, height), or None where there is none."""
        widths, heights = self.largest()
        return (int(widths[0]), int(heights[0])) if len(widths) else None

    def largest(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The sizes (widths, heights) that no other size contains: widths ascending, heights descending."""
        low, high = self.heights()
        widths = np.flatnonzero(low <= high)
        tallest = high[widths]
        beyond = np.append(np.maximum.accumulate(tallest[:0:-1])[::-1], 0)  # the tallest of all wider sizes
        contained = tallest <= beyond[: len(tallest)]
        return widths[~contained], tallest[~contained]


class SizeLaw:
    """Draws a size w × h in proportion to across[w] · down[h], from all those with low[w] ≤ h ≤ high[w].

    Setting up takes time in proportion to the image's width plus height, a draw to their logarithm.

    Args:
        low: Least height for each width 0 .. W.
        high: Greatest height for each width; below ``low`` where there is none.
        across: Weight of each width 0 .. W, not negative.
        down: Weight of each height 0 .. H, not negative.
    """

    def __init__(
        self,
        low: NDArray[np.int64],
        high: NDArray[np.int64],
        across: NDArray[np.float64],
        down: NDArray[np.float64],
    ) -> None:
        self._low, self._high = low, high
        self._down = np.cumsum(down)
        # For width w, the heights' share of the line 0 .. sum(down) runs from start[w] to start[w] + span[w].
        self._start = self._down[low - 1]
        self._span = np.where(low <= high, self._down[high] - self._start, 0.0)
        self._across = np.cumsum(across * self._span)
        self.total = float(self._across[-1])
        """The sum of all weights; 0 where there is nothing to draw."""
        # The same arrays as Python scalars, which are several times faster to read one by one.
        self._scalars = [array.data for array in (self._across, self._start, self._span, self._down, high)]

    def draw(self, u: float, v: float) -> tuple[int, int]:
        """The size that belongs to two uniform numbers in [0, 1)."""
        across, start, span, down, high = self._scalars
        width = bisect_right(across, u * self.total, 0, len(across) - 1)
        height = bisect_right(down, start[width] + v * span[width])
        return width, min(height, high[width])  # the sum may be rounded up to the end of the span

    def draw_many(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The sizes (widths, heights) that belong to two arrays of uniform numbers in [0, 1)."""
        widths = np.minimum(np.searchsorted(self._across, u * self.total, "right"), len(self._across) - 1)
        heights = np.searchsorted(self._down, self._start[widths] + v * self._span[widths], "right")
        return widths, np.minimum(heights, self._high[widths])


def check_range(name: str, value: tuple[float, float], high: float | None) -> tuple[float, float]:
    """Return (low, high) if ``value`` is an ascending pair above 0 and at most ``high``.

    Raises:
        InputError: It is not.
    """
    try:
        first, last = value
    except (TypeError, ValueError):
        raise InputError(f"{name} must be two numbers (low, high), got {value!r}") from None
    first = require_number(f"{name}[0]", first, above=0)
    last = require_number(f"{name}[1]", last, first, high)
    return first, last
