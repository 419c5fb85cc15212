"""DSR against scikit-learn's PCA and Lasso, and plain loops over its equations."""

import numpy as np
import pytest
from skimage.color import rgb2lab
from sklearn.decomposition import PCA
from sklearn.linear_model import Lasso

from castlit.saliency.algorithms import reconstruction as module


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return rng.random((50, 8)), rng.random((20, 8)) * np.linspace(0.2, 1, 8)


def test_dense_errors_match_pca(features):
    x, border = features
    pca = PCA(n_components=module.VARIANCE_KEPT, svd_solver="full").fit(border)
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
        variance = np.mean([np.var(x[:, d]) for d in range(8)])
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
    levels = np.minimum((seen * 10).astype(int), 9)
    weights = np.array([[np.exp(-((i - j) ** 2) / (2 * 3.0**2)) for j in range(-20, 30)] for i in range(10)])
    smooth = []
    for on_object in (True, False):
        counts = [np.sum((levels == level) & ((prior >= mean) == on_object)) for level in range(10)]
        # The first and last bins continue beyond the ends; a Gaussian ends at four times its width.
        padded = np.array([counts[min(max(j, 0), 9)] for j in range(-20, 30)])
        near = np.array([[abs(i - j) <= 12 for j in range(-20, 30)] for i in range(10)])
        found_counts = (weights * near) @ padded / (weights * near).sum(1)
        smooth.append(found_counts / found_counts.sum())
    for y, x in ((0, 0), (7, 11), (29, 39)):
        p, (on, off) = prior[y, x], (part[levels[y, x]] for part in smooth)
        assert found[y, x] == pytest.approx(p * on / (p * on + (1 - p) * off))


def test_pixel_features():
    image = np.random.default_rng(0).integers(40, 200, (30, 50, 3)).astype(np.uint8)
    found = module.pixel_features(image)
    assert found.shape == (30, 50, 8)
    lab = rgb2lab(image)
    for channel in range(3):
        low, high = lab[..., channel].min(), lab[..., channel].max()
        assert found[..., channel] == pytest.approx((lab[..., channel] - low) / (high - low), abs=2e-3)
    assert found[..., 3:6] == pytest.approx(image / 255)
    assert found[7, 20, 6:] == pytest.approx([20.5 / 50, 7.5 / 30])
