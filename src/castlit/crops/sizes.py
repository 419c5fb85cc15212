"""Which box sizes ``scale`` and ``ratio`` allow in one image, and how one of them is drawn."""

import math
from bisect import bisect_right
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError, require_number

TOLERANCE = 1e-9
"""Relative slack of all comparisons with ``scale`` and ``ratio``, against float noise such as 0.2 * 35 > 7."""

Limit = Literal["scale", "ratio"]
Integers = NDArray[np.int64]


class Sizes(NamedTuple):
    """The sizes w × h with areas[0] ≤ w·h ≤ areas[1] and ratios[0] ≤ w/h ≤ ratios[1] that fit one image."""

    width: int
    """Of the image, in pixels."""
    height: int
    areas: tuple[float, float]
    """Smallest and largest area of a box in pixels."""
    ratios: tuple[float, float]

    @classmethod
    def of(cls, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]) -> "Sizes":
        """The sizes whose fraction of the image area lies in ``scale`` and whose width / height lies in ``ratio``."""
        # Ratios beyond the image's own extremes make no difference, but might overflow.
        near, far = (min(max(value, 0.5 / height), 2.0 * width) for value in ratio)
        return cls(width, height, (scale[0] * width * height, scale[1] * width * height), (near, far))

    def of_any_area(self) -> "Sizes":
        """The sizes that keep to ``ratios``."""
        return self._replace(areas=(1, self.width * self.height))

    def integer_areas(self) -> tuple[int, int]:
        """Smallest and largest area as integers, at least 1 and at most the image; the first may be greater."""
        low, high = self.areas
        return max(1, math.ceil(low * (1 - TOLERANCE))), min(self.width * self.height, int(high * (1 + TOLERANCE)))

    def heights(self) -> tuple[Integers, Integers]:
        """For each width 0 .. ``width``, the least and the greatest height; least > greatest where there is none.

        Both are within 1 .. ``height`` wherever there is a height.
        """
        widths = np.arange(1, self.width + 1)
        least, most = self.integer_areas()
        ratio_low, ratio_high = self.ratios
        low = np.maximum(np.ceil(widths * ((1 - TOLERANCE) / ratio_high)), -(-least // widths))
        high = np.minimum(np.floor(widths * ((1 + TOLERANCE) / ratio_low)), most // widths)
        low = np.append(1, np.clip(low, 1, self.height + 1).astype(np.int64))
        high = np.append(0, np.clip(high, 0, self.height).astype(np.int64))
        return low, high

    def largest(self) -> tuple[Integers, Integers]:
        """The sizes (widths, heights) that no other size contains: widths ascending, heights descending."""
        low, high = self.heights()
        widths = np.flatnonzero(low <= high)
        tallest = high[widths]
        beyond = np.append(np.maximum.accumulate(tallest[:0:-1])[::-1], 0)  # the tallest of all wider sizes
        contained = tallest <= beyond[: len(tallest)]
        return widths[~contained], tallest[~contained]

    def nearest(self) -> tuple["Sizes", Limit | None]:
        """These sizes if there are any, else the nearest that exist, and the limit that they exceed.

        The distance from a range is |log(value / the range's nearer end)|, first of the ratio, then of the area.
        """
        widths = np.arange(1, self.width + 1)
        ends = widths / np.array(self.ratios)[:, None]
        heights = np.clip([np.floor(ends), np.ceil(ends)], 1, self.height)
        ratios, by_ratio = _widen(self.ratios, widths / heights)
        sizes = self._replace(ratios=ratios)
        low, high = sizes.of_any_area().heights()
        widths = np.flatnonzero(low <= high)
        ends = np.array(self.areas)[:, None] / widths
        heights = np.clip([np.floor(ends), np.ceil(ends)], low[widths], high[widths])
        areas, by_area = _widen(self.areas, widths * heights)
        return sizes._replace(areas=areas), "ratio" if by_ratio else "scale" if by_area else None

    def growing(self) -> tuple[Integers, Integers, int]:
        """Sizes that each contain the one before, from the smallest allowed area to the full image.

        The first ones have the shape of the largest size within ``ratios``, which contains all others, and end with it.
        The rest span the image one way and grow the other way.

        Returns:
            Widths, heights, and how many sizes are within ``ratios``.
        """
        free = self.of_any_area()
        low, high = free.heights()
        width, height = (int(sides[-1]) for sides in free.largest())
        steps = np.arange(1, max(width, height) + 1)
        widths, heights = -(-steps * width // len(steps)), -(-steps * height // len(steps))
        kept = (low[widths] <= heights) & (heights <= high[widths]) & (widths * heights >= self.integer_areas()[0])
        full_height = self.width * height >= width * self.height
        wider = np.arange(width if full_height else self.width, self.width + 1)
        taller = np.arange(self.height if full_height else height, self.height + 1)
        wider, taller = np.broadcast_arrays(wider, taller)
        return np.append(widths[kept], wider), np.append(heights[kept], taller), int(kept.sum())


def _widen(limits: tuple[float, float], values: NDArray[np.float64]) -> tuple[tuple[float, float], bool]:
    """``limits``, widened at both ends by the same factor if no value is within them; and whether they were."""
    low, high = limits
    factor = float(np.maximum(low / values, values / high).min())
    return (limits, False) if factor < 1 + TOLERANCE else ((low / factor, high * factor), True)


class SizeDistribution:
    """Draws a size w × h in proportion to across[w] · down[h], from all those with low[w] ≤ h ≤ high[w].

    Args:
        low: Least height for each width 0 .. W.
        high: Greatest height for each width; below ``low`` where there is none.
        across: Weight of each width 0 .. W, not negative.
        down: Weight of each height 0 .. H, not negative.
    """

    def __init__(self, low: Integers, high: Integers, across: NDArray[np.float64], down: NDArray[np.float64]) -> None:
        self._high = high
        self._down = np.cumsum(down)
        # The heights of width w take the part of the line 0 .. sum(down) from start[w] to start[w] + span[w].
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

    def draw_many(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[Integers, Integers]:
        """The sizes (widths, heights) that belong to two arrays of uniform numbers in [0, 1)."""
        widths = np.minimum(np.searchsorted(self._across, u * self.total, "right"), len(self._across) - 1)
        heights = np.searchsorted(self._down, self._start[widths] + v * self._span[widths], "right")
        return widths, np.minimum(heights, self._high[widths])


class Plan(NamedTuple):
    """What is known about the boxes of an image before its mask."""

    sizes: Sizes
    """Those asked for, or the nearest that exist."""
    relaxed: Limit | None
    """The limit that all ``sizes`` exceed."""
    distribution: SizeDistribution
    by_size: bool
    """Whether all sizes are equally likely; otherwise all boxes are."""


@lru_cache(maxsize=512)
def plan(width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], by_size: bool) -> Plan:
    """The plan for images of this size."""
    sizes, relaxed = Sizes.of(width, height, scale, ratio).nearest()
    if by_size:
        across, down = np.ones(width + 1), np.ones(height + 1)
    else:  # the number of positions of each width and of each height
        across, down = np.arange(width + 1.0, 0, -1), np.arange(height + 1.0, 0, -1)
    return Plan(sizes, relaxed, SizeDistribution(*sizes.heights(), across, down), by_size)


def check_range(name: str, value: tuple[float, float], high: float | None) -> tuple[float, float]:
    """Return (low, high) if ``value`` is an ascending pair above 0 and at most ``high``.

    Raises:
        InputError: ``value`` is no such pair.
    """
    try:
        first, last = value
    except (TypeError, ValueError):
        raise InputError(f"{name} must be two numbers (low, high), got {value!r}") from None
    first = require_number(f"{name}[0]", first, above=0)
    last = require_number(f"{name}[1]", last, first, high)
    return first, last
