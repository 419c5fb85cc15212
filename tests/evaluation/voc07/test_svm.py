import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.model_selection import StratifiedKFold

from castlit.evaluation.voc07 import average_precision, classify
from castlit.utils.validation import InputError


def blobs(count, seed, classes=2, dims=6, distance=1.0):
    """Features whose dimension c is higher where class c is there, and labels of -1 and 1."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([-1, 1], np.int8), (count, classes))
    features = rng.normal(size=(count, dims)).astype(np.float32)
    features[:, :classes] += distance * labels
    return features, labels


def by_hand(x, y, cost):
    """Minimise the squared-hinge objective in double precision, without liblinear."""
    x = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])  # the bias is a weight like any other
    sign, weight = np.where(y, 1.0, -1.0), np.where(y, 2.0, 1.0)

    def objective(w):
        slack = np.maximum(0, 1 - sign * (x @ w))
        return 0.5 * w @ w + cost * (weight * slack**2).sum(), w - 2 * cost * x.T @ (weight * slack * sign)

    return minimize(objective, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-8}).x


def test_agrees_with_direct_minimisation():
    train, test, costs = blobs(90, 0), blobs(60, 1), (0.001, 0.05, 3.0)
    found = classify(train, test, ["a", "b"], costs)
    for column, name in enumerate("ab"):
        x, y = train[0], train[1][:, column] > 0
        means = []
        for cost in costs:
            folds = []
            for kept, out in StratifiedKFold(3).split(x, y):
                w = by_hand(x[kept], y[kept], cost)
                folds.append(average_precision(y[out], x[out] @ w[:-1] + w[-1]))
            means.append(np.mean(folds))
        best = int(np.argmax(means))
        assert found[name].cost == costs[best]
        assert found[name].cross_validated == pytest.approx(means[best], abs=0.3)
        w = by_hand(x, y, costs[best])
        expected = average_precision(test[1][:, column] > 0, test[0] @ w[:-1] + w[-1])
        assert found[name].precision == pytest.approx(expected, abs=0.3)


def test_difficult_images_do_not_count():
    train, test = blobs(90, 0, distance=3.0), blobs(60, 1, distance=3.0)
    spoilt_train = (np.vstack([train[0], -9 * train[0]]), np.vstack([train[1], np.zeros_like(train[1])]))
    spoilt_test = (np.vstack([test[0], -9 * test[0]]), np.vstack([test[1], np.zeros_like(test[1])]))
    assert classify(spoilt_train, spoilt_test, ["a", "b"]) == classify(train, test, ["a", "b"])


def test_separable_and_random_features():
    train, test = blobs(300, 0, distance=9.0), blobs(300, 1, distance=9.0)
    assert [result.precision for result in classify(train, test, ["a", "b"]).values()] == pytest.approx([100, 100])
    train, test = blobs(600, 0, distance=0.0), blobs(2000, 1, distance=0.0)
    for result in classify(train, test, ["a", "b"]).values():
        assert result.precision == pytest.approx(100 * result.positives / result.images, abs=5)


def test_processes_change_nothing():
    train, test = blobs(60, 0), blobs(60, 1)
    assert classify(train, test, ["a", "b"], processes=2) == classify(train, test, ["a", "b"])


@pytest.mark.parametrize("which", ["train", "test"])
def test_class_without_positives(which):
    train, test = blobs(60, 0), blobs(60, 1)
    (train if which == "train" else test)[1][:, 1] = -1
    with pytest.raises(InputError, match=f"class bird has 0 positives and 60 negatives to {which} on"):
        classify(train, test, ["cat", "bird"])
