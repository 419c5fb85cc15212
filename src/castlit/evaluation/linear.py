"""Linear probe: what a linear classifier can read out of frozen features."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_probe(features: NDArray[np.float32], labels: NDArray[np.int64], strength: float = 0.1) -> Pipeline:
    """Fit multinomial logistic regression on standardised features.

    Args:
        features: (N, C).
        labels: (N,) whole numbers.
        strength: Inverse of the L2 penalty, scikit-learn's ``C``.

    Returns:
        A fitted classifier; ``score(features, labels)`` gives its accuracy in [0, 1].
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return probe.fit(features, labels)
