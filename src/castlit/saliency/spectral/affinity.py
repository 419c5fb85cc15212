"""How alike the cells of a feature map are: in features, in colour, and to what is expected of their position."""

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.saliency.algorithms.superpixels import Floats, Image, to_lab

TINY = 1e-6
"""Added to each affinity, so that the graph is connected."""


def unit_features(features: NDArray[np.floating], centred: bool) -> Floats:
    """The cells' features, one row each, of length 1.

    Args:
        features: (C, h, w).
        centred: Subtract the image's mean first. After a ReLU all features point into one octant, and their cosines say
            little; the mean is what all cells of the image share.

    Returns:
        (h · w, C); a row of zeros stays zero.
    """
    rows = np.asarray(features.reshape(len(features), -1).T, np.float64)
    if centred:
        rows = rows - rows.mean(0)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    # A cell whose features equal the mean has no direction; rounding would give it one.
    return np.asarray(rows / np.where(length > 1e-6 * max(float(length.max()), 1e-12), length, np.inf))


def feature_affinity(units: Floats, sigma: float) -> Floats:
    """exp((cosine - 1) / sigma) of all pairs (n, n) of rows of length 1; in (0, 1]."""
    return np.asarray(np.exp((units @ units.T - 1) / sigma))


def colour_affinity(image: Image, grid: tuple[int, int], sigma: float) -> Floats:
    """exp(-d² / (2 sigma²)) of all pairs (n, n) of cells, d their mean colours' distance in CIE Lab / 100; in (0, 1].

    Args:
        image: (H, W, 3) RGB.
        grid: (h, w) of the cells.
        sigma: Of the colours.
    """
    height, width = grid
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    colours = np.asarray(to_lab(np.asarray(small, np.uint8)).reshape(-1, 3), np.float64) / 100
    norms = np.square(colours).sum(1)
    squared = np.maximum(norms[:, None] + norms - 2 * colours @ colours.T, 0)
    return np.asarray(np.exp(-squared / (2 * sigma**2)))


def off_centre(grid: tuple[int, int], sigma: float) -> Floats:
    """1 - a Gaussian in the centre, (h · w,): 0 in the middle, towards 1 at the border.

    Args:
        grid: (h, w) of the cells.
        sigma: Of the Gaussian, in units of the image's height and width.
    """
    down, across = ((((np.arange(count) + 0.5) / count - 0.5) / sigma) ** 2 / 2 for count in grid)
    return np.asarray(1 - np.exp(-(down[:, None] + across)).ravel())
