"""A guess at a map's quality, made without labels."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.saliency.algorithms.superpixels import Image

CUT = 128
"""Pixels above this level of 255 are the mask, as in :data:`castlit.data.io.masks.THRESHOLD`."""

BINS = 8
"""Histogram bins of each colour channel."""

SMALL, LARGE = 0.05, 0.5
"""Fractions of an image below and above which a mask is suspicious."""


class Quality(NamedTuple):
    """Measurements of a map."""

    area: float
    """Fraction of the image that the mask covers, in [0, 1]."""
    grey: float
    """Mean of 4 m (1 - m) over the map's values m: 0 if all are 0 or 1, 1 if all are 1/2."""
    overlap: float
    """Intersection of the colour histograms inside and outside the mask, in [0, 1]."""
    border: float
    """Fraction of the image's border that the mask covers, in [0, 1]."""

    @property
    def badness(self) -> float:
        """How bad the map looks, in [0, 1]; only used to sort the preview.

        The mean of ``grey`` and ``overlap``, as a good map is near 0 or 1 and its object differs in colour; or, if
        larger, the fraction of the border, or how far the area is below 5 % (1: nothing) or above 50 % (1: everything).

        On photographs of PASCAL VOC its rank correlation with the intersection over union with the true mask was -0.36
        for quality=fast (290 images) and -0.49 for fused (145). The worst quarter had a mean of 0.23 and 0.20, the best
        of 0.47 and 0.48.
        """
        small, large = 1 - self.area / SMALL, (self.area - LARGE) / (1 - LARGE)
        return max((self.grey + self.overlap) / 2, self.border, small, large)

    @property
    def flaw(self) -> str:
        """What is wrong with the map, in a few words; empty if nothing is."""
        if self.area == 0:
            return "nothing"
        if self.area < SMALL / 2:
            return "tiny"
        if self.area > (1 + LARGE) / 2:
            return "nearly everything"
        if self.border > 0.5:
            return "covers the border"
        if self.grey > 0.6:
            return "undecided"
        return "same colours as the background" if self.overlap > 0.6 else ""


def measure_quality(image: Image, levels: NDArray[np.uint8]) -> Quality:
    """Measure a map.

    Args:
        image: (H, W, 3) RGB.
        levels: (H, W) in [0, 255].
    """
    mask = levels > CUT
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    values = levels / np.float32(255)
    return Quality(
        area=covered_fraction(levels),
        grey=float((4 * values * (1 - values)).mean()),
        overlap=colour_overlap(image, mask),
        border=sum(int(edge.sum()) for edge in edges) / sum(edge.size for edge in edges),
    )


def covered_fraction(levels: NDArray[np.uint8]) -> float:
    """The fraction of a map that the mask covers."""
    return cv2.countNonZero(cv2.threshold(levels, CUT, 1, cv2.THRESH_BINARY)[1]) / levels.size


def colour_overlap(image: Image, mask: NDArray[np.bool_]) -> float:
    """Intersection of the colour histograms inside and outside a mask (H, W); 1 if either is empty."""
    if mask.all() or not mask.any():
        return 1.0
    levels = (image // np.uint8(256 // BINS)).astype(np.int64)
    colour = (levels[..., 0] * BINS + levels[..., 1]) * BINS + levels[..., 2]
    inside, outside = (np.bincount(colour[where], minlength=BINS**3) / where.sum() for where in (mask, ~mask))
    return float(np.minimum(inside, outside).sum())
