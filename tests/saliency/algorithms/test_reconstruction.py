"""DSR against scikit-learn's PCA and Lasso, and plain loops over its equations."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Lasso

from castlit.saliency.algorithms import reconstruction as module


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return rng.random((50, 8)), rng.random((20, 8)) * np.linspace(0.2, 1, 8)


def test_dense_errors_match_pca(features):
    x, border = features
    pca = PCA(n_components=0.95, svd_solver="full").fit(border)
    expected = ((x - pca.inverse_transform(pca.transform(x))) ** 2).sum(1)
    assert module.dense_errors(x, border) == pytest.approx(expected)


def test_sparse_errors_match_lasso(features):
    x, border = features
    found = module.sparse_errors(x, border, steps=3000)
    for feature, error in zip(x, found, strict=True):
        # scikit-learn halves the squares and takes their mean over the 8 features.
        lasso = Lasso(alpha=0.01 / (2 * 8), fit_intercept=False, max_iter=100000, tol=1e-10).fit(border.T, feature)
        assert error == pytest.approx(((feature - lasso.predict(border.T)) ** 2).sum(), abs=1e-4)


def test_default_steps_suffice(features):
    x, border = features
    assert module.sparse_errors(x, border) == pytest.approx(
        module.sparse_errors(x, border, steps=5000), abs=1e-3 * (x**2).sum(1).mean()
    )


def test_propagate(features):
    x, _ = features
    rng = np.random.default_rng(1)
    errors, clusters = rng.random(50), rng.integers(0, 4, 50).astype(np.int32)
    expected = errors.copy()
    for cluster in range(4):
        members = sorted(np.flatnonzero(clusters == cluster), key=lambda i: -errors[i])
        variance = sum(np.var([x[i, d] for i in members]) for d in range(8))
        for position, i in enumerate(members):
            if position == 0:
                continue
            weights = [np.exp(-((x[i] - x[k]) ** 2).sum() / (2 * variance)) for k in members[:position]]
            taken = sum(w * expected[k] for w, k in zip(weights, members[:position], strict=True)) / sum(weights)
            expected[i] = 0.5 * taken + 0.5 * errors[i]
    assert module.propagate(errors, x, clusters) == pytest.approx(expected)


def test_towards_object():
    errors = np.zeros((40, 60))
    errors[10, 15] = errors[10, 25] = 1
    found = module.towards_object(errors)
    assert found[10, 15] == pytest.approx(np.exp(-((5 / (0.25 * 60)) ** 2) / 2))
    assert found[10, 25] == found[10, 15]
    assert np.count_nonzero(found) == 2


def test_posterior():
    rng = np.random.default_rng(0)
    prior, seen = rng.random((2, 30, 40))
    found = module.posterior(prior, seen, bins=10)
    mean = prior.mean()
    for y, x in ((0, 0), (7, 11), (29, 39)):
        bin_ = min(int(seen[y, x] * 10), 9)
        alike = [min(int(s * 10), 9) == bin_ for s in seen.ravel()]
        on = [p >= mean for p in prior.ravel()]
        on_object = sum(a and o for a, o in zip(alike, on, strict=True)) / sum(on)
        on_ground = sum(a and not o for a, o in zip(alike, on, strict=True)) / sum(not o for o in on)
        p = prior[y, x]
        assert found[y, x] == pytest.approx(p * on_object / (p * on_object + (1 - p) * on_ground))
