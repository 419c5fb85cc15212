"""Which box sizes a range of areas and aspect ratios allows in one image."""

import math

import numpy as np

from castlit.nn.checks import InputError, require_number

RATIO_STEPS = 65
"""Aspect ratios searched when random draws have failed; neighbours differ by under 1 % for the default range."""


class SizeRange:
    """The sizes (width, height) that ``scale`` and ``ratio`` allow inside an image.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        scale: Range of the box's share of the image area, in (0, 1].
        ratio: Range of width / height, above 0.

    Raises:
        InputError: A range is not two ascending numbers, or out of bounds.
    """

    def __init__(self, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
        low, high = check_range("scale", scale, 1.0)
        self.width, self.height = width, height
        self.area_range = (low * width * height, high * width * height)
        self.ratio_range = check_range("ratio", ratio, None)
        self._log_ratio = (math.log(self.ratio_range[0]), math.log(self.ratio_range[1]))

    def draw(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """A random size: area uniform, log ratio uniform. None where the drawn size does not fit the image."""
        u, v = rng.random(2).tolist()
        area = self.area_range[0] + u * (self.area_range[1] - self.area_range[0])
        ratio = math.exp(self._log_ratio[0] + v * (self._log_ratio[1] - self._log_ratio[0]))
        width, height = self.size(area, ratio)
        return (width, height) if width <= self.width and height <= self.height else None

    @staticmethod
    def size(area: float, ratio: float) -> tuple[int, int]:
        """The size in whole pixels, at least 1 × 1, nearest to an area in pixels and a ratio."""
        return max(1, round(math.sqrt(area * ratio))), max(1, round(math.sqrt(area / ratio)))

    def of_width(self, width: int, ratio: float) -> tuple[int, int]:
        """The size of this width and ratio, cut to the image."""
        return width, min(self.height, max(1, round(width / ratio)))

    def largest_fit(self, ratio: float) -> tuple[int, int]:
        """The largest size of this ratio inside the image, whatever its area."""
        side = max(1, min(self.width, round(self.height * ratio)))
        return self.of_width(side, ratio)

    def largest_area(self, ratio: float) -> float | None:
        """The largest allowed area of this ratio that fits the image; None where even the smallest does not."""
        low, high = self.area_range
        # Sizes are rounded, so half a pixel more than the image still fits; the margin keeps clear of round-half-even.
        reach = min((self.width + 0.499) ** 2 / ratio, (self.height + 0.499) ** 2 * ratio)
        return min(high, reach) if reach >= low else None

    def ratio_grid(self) -> list[float]:
        """A fine grid over the allowed ratios, both ends included, even in the logarithm."""
        grid: list[float] = np.exp(np.linspace(*self._log_ratio, RATIO_STEPS)).tolist()
        return grid if self._log_ratio[0] < self._log_ratio[1] else grid[:1]

    def distance(self, size: tuple[int, int]) -> float:
        """How far the size's area lies outside the allowed range, as a factor in the logarithm."""
        log_area = math.log(size[0] * size[1])
        return max(0.0, math.log(self.area_range[0]) - log_area, log_area - math.log(self.area_range[1]))


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
