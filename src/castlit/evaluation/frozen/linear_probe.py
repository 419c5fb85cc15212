"""Linear probe: logistic regression on frozen features."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError, require_number

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def linear_probe(features: NDArray[np.float32], labels: NDArray[np.int64], strength: float = 0.1) -> "Pipeline":
    """Fit multinomial logistic regression on standardised features.

    Args:
        features: (N, C).
        labels: (N,) integers.
        strength: Inverse of the L2 penalty, scikit-learn's ``C``.

    Returns:
        A fitted classifier; ``score(features, labels)`` gives its accuracy in [0, 1].

    Raises:
        InputError: Features are not finite, there is only one class, or ``strength`` is out of range.
    """
    # A second to import, which most evaluations need not spend.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    require_number("strength", strength, above=0)
    if not np.isfinite(features).all():
        raise InputError("the network's features are not finite: its weights are damaged, or its training has diverged")
    if len(np.unique(labels)) < 2:
        raise InputError(f"a linear probe needs images of at least two classes; these {len(labels)} are of one")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return probe.fit(features, labels)


def as_linear(probe: "Pipeline") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fold standardisation and logistic regression into one linear layer.

    Args:
        probe: See :func:`linear_probe`.

    Returns:
        Weight (classes, C) and bias (classes,), one row for each of the classes that the probe was fitted on.
    """
    scaler, regression = probe[0], probe[-1]
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(weight) == 1:  # scikit-learn keeps only the second class's logit of two
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias
