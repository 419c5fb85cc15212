"""How much a map looks like that of an object, told without labels."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.saliency.algorithms.superpixels import Image

CUT = 128
"""Pixels above this level of 255 are the mask, as in :data:`castlit.data.io.masks.THRESHOLD`."""

BINS = 8
"""Of each colour channel, where colours are compared."""

SMALL, LARGE = 0.05, 0.5
"""Shares of an image below and above which a mask begins to look wrong."""


class Figures(NamedTuple):
    """What is measured of a map."""

    area: float
    """Share of the image that the mask covers, in [0, 1]."""
    grey: float
    """Mean of 4 m (1 - m) over the map's values m: 0 where all are 0 or 1, 1 where all are 1/2."""
    overlap: float
    """What the histograms of colours inside and outside the mask have in common, in [0, 1]."""
    border: float
    """Share of the image's border that the mask covers, in [0, 1]."""

    @property
    def doubt(self) -> float:
        """How bad the map looks, in [0, 1]. It orders the preview and nothing else.

        The mean of ``grey`` and ``overlap``: a good mask is decided, and of other colours than what is around it. Or,
        where that is more, the border's share, or how far the area is below 5 % (1: nothing) or above 50 % (1: all).

        On photographs of PASCAL VOC its rank correlation with the mask's intersection over union with the truth was
        -0.36 for quality=fast (290 images) and -0.49 for fused (145); the worst quarter had 0.23 and 0.20 where the
        best had 0.47 and 0.48.
        """
        small, large = 1 - self.area / SMALL, (self.area - LARGE) / (1 - LARGE)
        return max((self.grey + self.overlap) / 2, self.border, small, large)

    @property
    def words(self) -> str:
        """What is odd about the map, in a few words; empty where nothing is."""
        if self.area == 0:
            return "nothing"
        if self.area < SMALL / 2:
            return "tiny"
        if self.area > (1 + LARGE) / 2:
            return "nearly everything"
        if self.border > 0.5:
            return "all around"
        if self.grey > 0.6:
            return "undecided"
        return "of the same colours as the rest" if self.overlap > 0.6 else ""


def judge(image: Image, levels: NDArray[np.uint8]) -> Figures:
    """Measure a map.

    Args:
        image: (H, W, 3) RGB.
        levels: (H, W) in [0, 255].
    """
    mask = levels > CUT
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    values = levels / np.float32(255)
    return Figures(
        area=covered(levels),
        grey=float((4 * values * (1 - values)).mean()),
        overlap=colour_overlap(image, mask),
        border=sum(int(edge.sum()) for edge in edges) / sum(edge.size for edge in edges),
    )


def covered(levels: NDArray[np.uint8]) -> float:
    """The share of a map that the mask covers."""
    return cv2.countNonZero(cv2.threshold(levels, CUT, 1, cv2.THRESH_BINARY)[1]) / levels.size


def colour_overlap(image: Image, mask: NDArray[np.bool_]) -> float:
    """What the histograms of colours inside and outside a mask (H, W) have in common; 1 where either is nothing."""
    if mask.all() or not mask.any():
        return 1.0
    levels = (image // np.uint8(256 // BINS)).astype(np.int64)
    colour = (levels[..., 0] * BINS + levels[..., 1]) * BINS + levels[..., 2]
    inside, outside = (np.bincount(colour[where], minlength=BINS**3) / where.sum() for where in (mask, ~mask))
    return float(np.minimum(inside, outside).sum())
