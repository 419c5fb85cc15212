"""Average precision of a ranking, by the two rules used for VOC07."""

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]


def average_precision(truth: Truth, scores: Scores) -> float:
    """The sum over thresholds of precision × gain in recall, as scikit-learn defines it; in [0, 100].

    Args:
        truth: (N,) whether the class is present.
        scores: (N,) higher is more confident; equal scores share a threshold.

    Raises:
        InputError: No positives, scores that are not finite, or other shapes.
    """
    from sklearn.metrics import average_precision_score  # a second, which other protocols need not spend

    _require_ranking(truth, scores)
    return 100 * float(average_precision_score(truth, scores))


def eleven_point_precision(truth: Truth, scores: Scores) -> float:
    """The mean of the best precision at recall ≥ 0, 0.1, …, 1 (PASCAL VOC 2007's rule); in [0, 100].

    Args:
        truth: (N,) whether the class is present.
        scores: (N,) higher is more confident.

    Raises:
        InputError: As in :func:`average_precision`.
    """
    from sklearn.metrics import precision_recall_curve

    _require_ranking(truth, scores)
    precision, recall, _ = precision_recall_curve(truth, scores)
    # The curve's last point, recall 0 at precision 1, belongs to no threshold.
    precision, recall = precision[:-1], recall[:-1]
    # Recall is a ratio of integers: 3/10 counts as 0.3 despite rounding.
    best = [precision[recall >= step / 10 - 1e-9].max() for step in range(11)]
    return 100 * float(np.mean(best))


def _require_ranking(truth: Truth, scores: Scores) -> None:
    if truth.ndim != 1 or scores.shape != truth.shape:
        raise InputError(f"average precision needs truth (N,) and scores (N,), got {truth.shape} and {scores.shape}")
    if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
        raise InputError("average precision needs truth of booleans, or of 0 and 1")
    if not truth.any():
        raise InputError("average precision needs at least one positive")
    if not np.isfinite(scores).all():
        raise InputError("average precision needs finite scores, got NaN or infinity")
