"""Linear probe: what a linear classifier can read out of frozen features."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from castlit.utils.validation import InputError, require_number


def linear_probe(features: NDArray[np.float32], labels: NDArray[np.int64], strength: float = 0.1) -> Pipeline:
    """Fit multinomial logistic regression on standardised features.

    Args:
        features: (N, C).
        labels: (N,) whole numbers.
        strength: Inverse of the L2 penalty, scikit-learn's ``C``.

    Returns:
        A fitted classifier; ``score(features, labels)`` gives its accuracy in [0, 1].

    Raises:
        InputError: Features are not finite, labels are all one, or ``strength`` is out of range.
    """
    require_number("strength", strength, above=0)
    if not np.isfinite(features).all():
        raise InputError("the network's features are not finite: its weights are damaged, or its training has diverged")
    if len(np.unique(labels)) < 2:
        raise InputError(f"a linear probe needs images of two classes at least, and these {len(labels)} show one")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return probe.fit(features, labels)
