"""The standard metrics of saliency maps against ground-truth masks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.masks import THRESHOLD

Values = NDArray[np.float64]
Inside = NDArray[np.bool_]

BETA_SQUARED = 0.3
_LEVELS = 256


class SaliencyScores:
    """Accumulates maps and masks; the metrics are means over the images, all in [0, 1].

    - ``max_f``, ``mean_f``: F-measure with β² = 0.3, averaged over the images at each of 256 thresholds; the maximum
      and the mean of these (Achanta et al., CVPR 2009).
    - ``mae``: mean absolute error; smaller is better.
    - ``s_measure``: structural similarity by object and by region (Fan et al., ICCV 2017).
    - ``iou``: intersection over union at the threshold of castlit's data modules, 128 of 255.

    As usual, each map is first stretched to [0, 1]; only ``iou`` uses it unchanged, as training does.
    """

    def __init__(self) -> None:
        self._curves = np.zeros(_LEVELS)
        self._sums = {"mae": 0.0, "s_measure": 0.0, "iou": 0.0}
        self.images = 0

    def add(self, values: NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        """Score one image.

        Args:
            values: The map (h, w) in [0, 1], of any size: resized bilinearly to the mask's size.
            mask: (H, W), nonzero on objects.
        """
        size = mask.shape[::-1]
        scaled = cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_LINEAR)
        levels = np.asarray(scaled * 255, np.float64).round().clip(0, 255)
        inside = mask > 0
        self._sums["iou"] += overlap(levels > THRESHOLD * 255, inside)
        low, high = levels.min(), levels.max()
        stretched = (levels - low) / (high - low) if high > low else levels / 255
        self._curves += f_curve(stretched, inside)
        self._sums["mae"] += float(np.abs(stretched - inside).mean())
        self._sums["s_measure"] += s_measure(stretched, inside)
        self.images += 1

    def merge(self, other: "SaliencyScores") -> None:
        """Add the images of another one."""
        self._curves += other._curves
        for name, total in other._sums.items():
            self._sums[name] += total
        self.images += other.images

    def results(self) -> dict[str, float]:
        """Return the metrics; at least one image must have been added."""
        curve = self._curves / self.images
        means = {name: total / self.images for name, total in self._sums.items()}
        return {"max_f": float(curve.max()), "mean_f": float(curve.mean()), **means}


def overlap(one: Inside, other: Inside) -> float:
    """Intersection over union; 1 if both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def f_curve(values: Values, inside: Inside) -> Values:
    """F-measures (256,) of a map (H, W) in [0, 1] at the thresholds 255, 254, … 0 of 255; 0 if nothing is found."""
    levels = (values * 255).astype(np.uint8)
    # Number of pixels at or above each threshold, on the object and in total.
    hits = np.bincount(levels[inside], minlength=_LEVELS)[::-1].cumsum()
    found = np.bincount(levels.ravel(), minlength=_LEVELS)[::-1].cumsum()
    precision = hits / np.maximum(found, 1)
    recall = hits / max(int(inside.sum()), 1)
    weighted = BETA_SQUARED * precision + recall
    return np.asarray((1 + BETA_SQUARED) * precision * recall / np.where(weighted > 0, weighted, 1))


def s_measure(values: Values, inside: Inside) -> float:
    """Half structural similarity by object, half by region, of a map (H, W) in [0, 1]; not below 0."""
    fraction = float(inside.mean())
    if fraction in (0.0, 1.0):
        return float(values.mean()) if fraction else 1 - float(values.mean())
    by_object = fraction * _evenness(values[inside]) + (1 - fraction) * _evenness(1 - values[~inside])
    return max(0.0, 0.5 * by_object + 0.5 * _by_region(values, inside))


def _evenness(x: Values) -> float:
    """How close to 1, and how even, values are that should be 1."""
    mean = float(x.mean())
    deviation = float(x.std(ddof=1)) if x.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation)


def _by_region(values: Values, inside: Inside) -> float:
    """Similarity in the four rectangles that meet at the object's centre of mass, weighted by their areas."""
    height, width = inside.shape
    rows, columns = np.nonzero(inside)
    # The upper and left rectangles include the row and column of the centre.
    y, x = int(rows.mean().round()) + 1, int(columns.mean().round()) + 1
    total = 0.0
    for down in (slice(0, y), slice(y, height)):
        for across in (slice(0, x), slice(x, width)):
            part = inside[down, across]
            if part.size:
                total += part.size / inside.size * _similarity(values[down, across], part.astype(np.float64))
    return total


def _similarity(x: Values, y: Values) -> float:
    """Structural similarity of two rectangles, without constants."""
    mean_x, mean_y = float(x.mean()), float(y.mean())
    freedom = max(x.size - 1, 1)
    spread = float(((x - mean_x) ** 2).sum() + ((y - mean_y) ** 2).sum()) / freedom
    together = float(((x - mean_x) * (y - mean_y)).sum()) / freedom
    above = 4 * mean_x * mean_y * together
    below = (mean_x**2 + mean_y**2) * spread
    if above == 0:
        return 1.0 if below == 0 else 0.0
    return above / below
