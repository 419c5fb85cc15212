"""How well saliency maps agree with ground-truth masks: no network, no training, only maps and masks."""

import cv2
import numpy as np
import py_sod_metrics
from numpy.typing import NDArray

from castlit.data.masks import THRESHOLD

Map = NDArray[np.float32]


class SaliencyScores:
    """Collects maps and masks, image by image, and scores them as the field does (py-sod-metrics).

    Figures, all in [0, 1]:

    - ``max_f``, ``mean_f``: F-measure with β² = 0.3 at 256 thresholds, averaged over the images; the largest and the
      mean over the thresholds (Achanta et al., CVPR 2009).
    - ``mae``: mean absolute error; the smaller the better.
    - ``s_measure``: structural similarity of objects and regions (Fan et al., ICCV 2017).
    - ``iou``: intersection over union at 0.5, as castlit's data modules cut masks; it alone sees the map as it is. For
      the others, as is the custom, each map is first brought to [0, 1].
    """

    def __init__(self) -> None:
        self._f = py_sod_metrics.Fmeasure(beta=0.3)
        self._mae = py_sod_metrics.MAE()
        self._s = py_sod_metrics.Smeasure()
        self._iou: list[float] = []

    def add(self, values: Map, mask: NDArray[np.uint8]) -> None:
        """Score an image's map (h, w) in [0, 1] against its mask (H, W), nonzero on the object."""
        size = mask.shape[::-1]
        scaled = cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_LINEAR).clip(0, 1)
        levels = np.asarray((scaled * 255).round(), np.uint8)
        inside = mask > 0
        for metric in (self._f, self._mae, self._s):
            metric.step(levels, inside.astype(np.uint8) * 255)
        cut = scaled > THRESHOLD
        self._iou.append(float((cut & inside).sum() / (cut | inside).sum()))

    def results(self) -> dict[str, float]:
        """The means over all images."""
        curve = self._f.get_results()["fm"]["curve"]
        return {
            "max_f": float(curve.max()),
            "mean_f": float(curve.mean()),
            "mae": float(self._mae.get_results()["mae"]),
            "s_measure": float(self._s.get_results()["sm"]),
            "iou": float(np.mean(self._iou)),
        }
