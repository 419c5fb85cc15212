"""Means over images and their 95 % intervals, from sums: images are added one by one and need not be kept."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # scipy.stats.t.ppf calls it, and takes a second to import

CONFIDENCE = 0.95

Values = NDArray[np.float64]


class Moments:
    """The mean over images of values of any shape, and their variance.

    Args:
        shape: Of an image's values.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self._total = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, values: float | Values) -> None:
        """Add an image's values."""
        self.count += 1
        self._total += values
        self._squares += np.square(values)

    def merge(self, other: "Moments") -> None:
        """Add the images of another one."""
        self.count += other.count
        self._total += other._total
        self._squares += other._squares

    @property
    def mean(self) -> Values:
        """The mean over the images; there must be one."""
        return np.asarray(self._total / self.count)

    @property
    def variance(self) -> Values:
        """The unbiased variance over the images; there must be two."""
        # Rounding can make the difference slightly negative where all images have the same value.
        return np.asarray(np.maximum(self._squares - self._total**2 / self.count, 0) / (self.count - 1))


def half_width(variance: float, count: int) -> float:
    """Half of the 95 % interval of the mean of ``count`` images by Student's t, of their variance."""
    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance / count)
