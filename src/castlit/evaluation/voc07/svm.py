"""One linear SVM per class, its cost chosen by cross-validation, on all cores."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from castlit.evaluation.voc07.average_precision import average_precision, eleven_point_precision
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError

Features = NDArray[np.float32]
Labels = NDArray[np.int8]

COSTS = (0.01, 0.1, 1.0, 10.0)
FOLDS = 3
_POSITIVE_WEIGHT = 2.0


class ClassResult(NamedTuple):
    """Results of one class."""

    precision: float
    """Average precision on the test images, in [0, 100]."""
    cost: float
    """The cost chosen by cross-validation."""
    cross_validated: float
    """Mean average precision over the folds at that cost, in [0, 100]."""
    positives: int
    """Test images that show the class."""
    images: int
    """Test images that count for the class."""


def classify(
    train: tuple[Features, Labels],
    test: tuple[Features, Labels],
    classes: Sequence[str],
    costs: Sequence[float] = COSTS,
    eleven_point: bool = False,
    processes: int = 1,
) -> dict[str, ClassResult]:
    """Fit and test one SVM per class (squared hinge, L2, positives count twice).

    The chosen cost has the highest mean average precision over three folds of the training images; ties go to the
    smallest. Images with label 0 are left out.

    Args:
        train: Features (N, C) and labels (N, classes) in {-1, 0, 1}.
        test: The same of the test images.
        classes: The classes' names.
        costs: Costs to choose from.
        eleven_point: Report eleven-point precision on the test images.
        processes: Number of processes; 1 uses this one.

    Raises:
        InputError: A class has no positives, or no negatives, to train or to test on.
    """
    for column, name in enumerate(classes):
        _require_both(train[1][:, column], name, "train", FOLDS)
        _require_both(test[1][:, column], name, "test", 1)
    jobs = [(column, float(cost)) for column in range(len(classes)) for cost in costs]
    with ProgressLog("Cross-validating", len(jobs), what="fits") as pace:
        found = _on_cores((delayed(_validate)(*train, column, cost) for column, cost in jobs), processes, pace)
    scores = np.reshape(found, (len(classes), len(costs)))
    chosen = scores.argmax(1)
    with ProgressLog("Fitting", len(classes), what="fits") as pace:
        final = (
            delayed(_test)(train, test, column, float(costs[chosen[column]]), eleven_point)
            for column in range(len(classes))
        )
        precisions = _on_cores(final, processes, pace)
    results = {}
    for column, name in enumerate(classes):
        best = int(chosen[column])
        labels = test[1][:, column]
        counts = int((labels > 0).sum()), int((labels != 0).sum())
        results[name] = ClassResult(precisions[column], float(costs[best]), float(scores[column, best]), *counts)
    return results


def _on_cores(jobs: Iterator[Any], processes: int, pace: ProgressLog) -> list[float]:
    results = []
    # joblib maps large arrays from a file that all processes share.
    for result in Parallel(processes, return_as="generator")(jobs):
        results.append(float(result))
        pace.advance()
    return results


def _validate(features: Features, labels: Labels, column: int, cost: float) -> float:
    """Mean average precision over the folds."""
    from sklearn.model_selection import StratifiedKFold

    x, y = _counted(features, labels[:, column])
    with threadpool_limits(1):
        folds = StratifiedKFold(FOLDS).split(x, y)
        return float(np.mean([average_precision(y[out], _fit(x[kept], y[kept], cost, x[out])) for kept, out in folds]))


def _test(
    train: tuple[Features, Labels], test: tuple[Features, Labels], column: int, cost: float, eleven_point: bool
) -> float:
    measure = eleven_point_precision if eleven_point else average_precision
    x, y = _counted(test[0], test[1][:, column])
    with threadpool_limits(1):
        return measure(y, _fit(*_counted(train[0], train[1][:, column]), cost, x))


def _counted(features: Features, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the images that are not difficult, in double precision as liblinear uses it."""
    counted = labels != 0
    return np.asarray(features[counted], np.float64), np.asarray(labels[counted] > 0)


def _fit(x: NDArray[np.float64], y: NDArray[np.bool_], cost: float, others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signed distances of ``others`` from the boundary."""
    from sklearn.svm import LinearSVC

    # The primal problem has the same solution as the dual, converges at any cost, and is deterministic.
    svm = LinearSVC(C=cost, class_weight={True: _POSITIVE_WEIGHT, False: 1.0}, dual=False, max_iter=5000)
    return np.asarray(svm.fit(x, y).decision_function(others))


def _require_both(labels: Labels, name: str, what: str, least: int) -> None:
    positives, negatives = int((labels > 0).sum()), int((labels < 0).sum())
    if min(positives, negatives) < least:
        raise InputError(
            f"class {name} has {positives} positives and {negatives} negatives to {what} on: "
            f"at least {least} of each are needed"
        )
