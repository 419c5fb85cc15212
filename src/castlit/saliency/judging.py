"""How much a map looks like that of an object, told without labels."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

CUT = 128
"""Pixels above this level of 255 are the mask, as in :data:`castlit.data.masks.THRESHOLD`."""


class Figures(NamedTuple):
    """What is measured of a map."""

    area: float
    """Share of the image that the mask covers, in [0, 1]."""
    spread: float
    """Standard deviation of the map, in [0, 0.5]. About √(a (1 - a)) · c for a mask of area a where the map is higher
    by c than elsewhere: small where the mask is tiny or nearly everything, and where the map is undecided."""
    border: float
    """Share of the image's border that the mask covers, in [0, 1]."""

    @property
    def doubt(self) -> float:
        """How bad the map looks, in [0, 1]: as 1 - 2 · spread, or as the border, whichever is worse.

        A label-free guess, which orders the preview and nothing else.
        """
        return max(1 - 2 * self.spread, self.border)

    @property
    def words(self) -> str:
        """What is odd about the map, in a word or two; empty where nothing is."""
        if self.area == 0:
            return "nothing"
        if self.area < 0.01:
            return "tiny"
        if self.area > 0.6:
            return "nearly everything"
        if self.border > 0.5:
            return "all around"
        return "undecided" if self.spread < 0.15 else ""


def judge(levels: NDArray[np.uint8]) -> Figures:
    """Measure a map.

    Args:
        levels: (H, W) in [0, 255].
    """
    mask = levels > CUT
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    return Figures(
        area=float(mask.mean()),
        spread=float(cv2.meanStdDev(levels)[1][0, 0]) / 255,
        border=sum(int(edge.sum()) for edge in edges) / sum(edge.size for edge in edges),
    )
