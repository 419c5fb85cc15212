"""The weighted F-measure (Margolin et al., CVPR 2014)."""

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from castlit.evaluation.saliency.thresholds import Inside, Values

_RADIUS, _SIGMA = 3, 5.0
"""Half the side of the window in which errors on the object are smoothed, and its Gaussian's sigma, in pixels."""
_HALF_LIFE = 5.0
"""Distance from the object in pixels at which half of the additional weight of a false pixel is reached."""
_EPS = float(np.finfo(np.float64).eps)


def weighted_f(values: Values, inside: Inside) -> float:
    """F-measure (β² = 1) of a map (H, W) in [0, 1], of errors that count by where they are; 0 if the mask is empty.

    On the object, an error counts less where the map is right around it; off the object it counts more, up to twice,
    the further away from the object it is.
    """
    if not inside.any():
        return 0.0
    error = np.abs(values - inside)
    on_object = error[inside]
    weighted = np.minimum(on_object, _smoothed(error, inside)[inside])
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[~inside]
    # OpenCV's last bit differs from call to call. Squared distances are whole numbers: rounded, they are exact.
    distance = np.sqrt(np.rint(np.square(distance, dtype=np.float64)))
    false = float((error[~inside] * (2 - np.exp2(-distance / _HALF_LIFE))).sum())
    true = weighted.size - float(weighted.sum())
    recall, precision = true / weighted.size, true / (true + false + _EPS)
    return 2 * recall * precision / (recall + precision + _EPS)


def _smoothed(error: Values, inside: Inside) -> Values:
    """Errors (H, W) in a Gaussian window; pixels off the object take the error of the nearest one on it.

    Correct on the object only. The window does not reach further than that around the object's box.
    """
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    box = tuple(slice(max(found[0] - _RADIUS, 0), found[-1] + 1 + _RADIUS) for found in (rows, columns))
    nearest = distance_transform_edt(~inside[box], return_distances=False, return_indices=True)
    carried = error[box][tuple(nearest)]
    window = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2 * _SIGMA**2))
    window /= window.sum()
    smoothed = np.zeros_like(error)
    smoothed[box] = cv2.sepFilter2D(carried, cv2.CV_64F, window, window, borderType=cv2.BORDER_CONSTANT)
    return smoothed
