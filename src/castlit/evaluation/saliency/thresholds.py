"""A map cut at each of 256 thresholds: precision, recall, F-measure and E-measure."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Inside = NDArray[np.bool_]

LEVELS = 256
BETA_SQUARED = 0.3
_EPS = float(np.finfo(np.float64).eps)


class Curves(NamedTuple):
    """Of one map, each (256,), at the thresholds 255, 254, … 0 of 255."""

    precision: Values
    """0 where the cut map is empty."""
    recall: Values
    """0 if the mask is empty."""
    f: Values
    e: Values


def curves(values: Values, inside: Inside) -> Curves:
    """Cut a map (H, W) in [0, 1] at each threshold, and compare with the mask (H, W)."""
    levels = (values * 255).astype(np.uint8)
    # Number of pixels at or above each threshold, on the object and in total.
    hits = np.bincount(levels[inside], minlength=LEVELS)[::-1].cumsum()
    found = np.bincount(levels.ravel(), minlength=LEVELS)[::-1].cumsum()
    objects = int(inside.sum())
    precision, recall = hits / np.maximum(found, 1), hits / max(objects, 1)
    return Curves(precision, recall, f_measure(precision, recall), e_measure(hits, found, objects, inside.size))


def f_measure(precision: Values, recall: Values) -> Values:
    """F-measure with β² = 0.3 (Achanta et al., CVPR 2009); 0 where precision and recall are."""
    below = BETA_SQUARED * precision + recall
    return np.asarray((1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1))


def adaptive_f(values: Values, inside: Inside) -> float:
    """F-measure of a map (H, W) in [0, 1], cut at twice its mean, or at 1 if that is smaller."""
    cut = values >= min(2 * float(values.mean()), 1.0)
    hits, found, objects = (int(np.count_nonzero(part)) for part in (cut & inside, cut, inside))
    precision, recall = hits / max(found, 1), hits / max(objects, 1)
    return float(f_measure(np.asarray(precision), np.asarray(recall)))


def e_measure(hits: NDArray[np.int64], found: NDArray[np.int64], objects: int, pixels: int) -> Values:
    """E-measure of binary maps (Fan et al., IJCAI 2018): how well map and mask, less their means, agree in each pixel.

    A pixel's agreement is ((2ab / (a² + b²) + 1) / 2)², for its values a and b less the means. Both are binary, so that
    four products suffice. As in the authors' code the sum is divided by one pixel less than there are: a perfect map
    has a little more than 1.

    Args:
        hits: Number of pixels of each map that are on the object.
        found: Number of pixels of each map.
        objects: Number of pixels of the mask.
        pixels: Number of pixels of the image.
    """
    if objects in (0, pixels):  # agreement is then defined as that of the two binary values
        total = np.asarray(found if objects else pixels - found, np.float64)
    else:
        of_map, of_mask = found / pixels, objects / pixels
        total = np.zeros(np.shape(found))
        for number, a, b in (
            (hits, 1 - of_map, 1 - of_mask),
            (found - hits, 1 - of_map, -of_mask),
            (objects - hits, -of_map, 1 - of_mask),
            (pixels - found - objects + hits, -of_map, -of_mask),
        ):
            total += number * (2 * a * b / (a**2 + b**2 + _EPS) + 1) ** 2 / 4
    return total / max(pixels - 1, 1)
