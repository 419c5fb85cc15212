"""The standard metrics of saliency maps against ground-truth masks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.masks import THRESHOLD
from castlit.evaluation.saliency.moments import Moments, half_width
from castlit.evaluation.saliency.s_measure import s_measure
from castlit.evaluation.saliency.thresholds import BETA_SQUARED, LEVELS, Inside, Values, adaptive_f, curves, f_measure
from castlit.evaluation.saliency.weighted_f import weighted_f

_CURVES = ("f", "e", "precision", "recall", "precision + recall")
_MEANS = ("mean_f", "adaptive_f", "weighted_f", "mean_e", "s_measure", "mae", "iou")
_ORDER = ("max_f", "max_f_of_means", *_MEANS[:3], "max_e", *_MEANS[3:])


class SaliencyScores:
    """Accumulates maps and masks; the metrics are means over the images, all in [0, 1].

    - ``max_f``, ``mean_f``: F-measure with β² = 0.3, averaged over the images at each of 256 thresholds; the maximum
      and the mean of these (Achanta et al., CVPR 2009).
    - ``max_f_of_means``: as most papers have it: precision and recall are averaged over the images at each threshold;
      the maximum of the F-measures of these. It is larger than ``max_f`` as a rule.
    - ``adaptive_f``: F-measure of the map cut at twice its mean, averaged over the images.
    - ``weighted_f``: of errors that count by where they are, β² = 1 (Margolin et al., CVPR 2014).
    - ``max_e``, ``mean_e``: E-measure, averaged over the images at each of 256 thresholds; the maximum and the mean of
      these (Fan et al., IJCAI 2018). By its definition, a perfect map has pixels / (pixels - 1).
    - ``s_measure``: structural similarity by object and by region (Fan et al., ICCV 2017).
    - ``mae``: mean absolute error; smaller is better.
    - ``iou``: intersection over union at the threshold of castlit's data modules, 128 of 255.

    As usual, each map is first stretched to [0, 1]; only ``iou`` uses it unchanged, as training does.
    """

    def __init__(self) -> None:
        self._curves = {name: Moments((LEVELS,)) for name in _CURVES}
        self._means = {name: Moments() for name in _MEANS}
        self.images = 0

    def add(self, values: NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        """Score one image.

        Args:
            values: The map (h, w) in [0, 1], of any size: resized bilinearly to the mask's size.
            mask: (H, W), nonzero on objects.
        """
        inside = mask > 0
        levels, stretched = at_size(values, mask.shape)
        precision, recall, f, e = curves(stretched, inside)
        for moments, curve in zip(self._curves.values(), (f, e, precision, recall, precision + recall), strict=True):
            moments.add(curve)
        means = {
            "mean_f": float(f.mean()),
            "adaptive_f": adaptive_f(stretched, inside),
            "weighted_f": weighted_f(stretched, inside),
            "mean_e": float(e.mean()),
            "s_measure": s_measure(stretched, inside),
            "mae": float(np.abs(stretched - inside).mean()),
            "iou": overlap(levels > THRESHOLD * 255, inside),
        }
        for name, value in means.items():
            self._means[name].add(value)
        self.images += 1

    def merge(self, other: "SaliencyScores") -> None:
        """Add the images of another one."""
        for name, curve in other._curves.items():
            self._curves[name].merge(curve)
        for name, mean in other._means.items():
            self._means[name].merge(mean)
        self.images += other.images

    def results(self) -> dict[str, float]:
        """Return the metrics; at least one image must have been added."""
        found = {name: float(moments.mean) for name, moments in self._means.items()}
        found["max_f"] = float(self._curves["f"].mean.max())
        found["max_e"] = float(self._curves["e"].mean.max())
        found["max_f_of_means"] = float(self._f_of_means().max())
        return {name: found[name] for name in _ORDER}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the 95 % interval of each metric over images, (low, high); none if there are fewer than two images.

        They say how far the metric would move with other images of the same kind, for maps of the same method. Each is
        mean ± Student's t times the standard error, by a normal approximation (no resampling): a maximum over
        thresholds has the interval of the mean at its threshold, and ``max_f_of_means`` that of its linear
        approximation in precision and recall (the delta method).
        """
        if self.images < 2:
            return {}
        found = {name: float(moments.variance) for name, moments in self._means.items()}
        for name in ("f", "e"):
            curve = self._curves[name]
            found[f"max_{name}"] = float(curve.variance[curve.mean.argmax()])
        found["max_f_of_means"] = self._variance_of_f_of_means()
        values = self.results()
        widths = {name: half_width(found[name], self.images) for name in _ORDER}
        return {name: (values[name] - width, values[name] + width) for name, width in widths.items()}

    def _f_of_means(self) -> Values:
        return f_measure(self._curves["precision"].mean, self._curves["recall"].mean)

    def _variance_of_f_of_means(self) -> float:
        """Variance over the images of what each adds to the maximum, to first order."""
        best = int(self._f_of_means().argmax())
        precision, recall = (float(self._curves[name].mean[best]) for name in ("precision", "recall"))
        by_precision, by_recall = slopes(precision, recall)
        of_precision, of_recall, of_sum = (float(self._curves[name].variance[best]) for name in _CURVES[2:])
        together = of_sum - of_precision - of_recall  # twice the covariance
        variance = by_precision**2 * of_precision + by_recall**2 * of_recall + by_precision * by_recall * together
        return max(variance, 0.0)


def at_size(values: NDArray[np.float32], size: tuple[int, ...]) -> tuple[Values, Values]:
    """A map's levels from 0 to 255 at a mask's size, and these stretched to [0, 1].

    Args:
        values: The map (h, w) in [0, 1].
        size: (H, W) of the mask.
    """
    scaled = cv2.resize(np.asarray(values, np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    levels = np.asarray(scaled * 255, np.float64).round().clip(0, 255)
    low, high = levels.min(), levels.max()
    return levels, (levels - low) / (high - low) if high > low else levels / 255


def slopes(precision: float, recall: float) -> tuple[float, float]:
    """How fast the F-measure grows with precision, and with recall; 0 where both are 0."""
    below = BETA_SQUARED * precision + recall
    if below == 0:
        return 0.0, 0.0
    return (1 + BETA_SQUARED) * (recall / below) ** 2, (1 + BETA_SQUARED) * BETA_SQUARED * (precision / below) ** 2


def overlap(one: Inside, other: Inside) -> float:
    """Intersection over union; 1 if both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0
