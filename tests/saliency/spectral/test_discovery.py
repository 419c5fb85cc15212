"""The cuts: a planted object is found, equations hold against dense solvers, and hostile inputs give a map."""

import numpy as np
import pytest
from scipy.linalg import eigh

from castlit.saliency.spectral.affinity import colour_affinity, feature_affinity, off_centre, unit_features
from castlit.saliency.spectral.discovery import _first_vectors, discover
from castlit.saliency.spectral.settings import DISCOVERY, SpectralSettings

GRID = (12, 16)
PLACE = (slice(4, 9), slice(5, 10))


@pytest.fixture
def planted(blot):
    """Features (8, 12, 16) with an object of one direction on a background of another; its image, and its cells."""
    rng = np.random.default_rng(0)
    cells = np.zeros(GRID, bool)
    cells[PLACE] = True
    inside, outside = rng.random((2, 8))
    features = np.where(cells, inside[:, None, None], outside[:, None, None]) + 0.05 * rng.random((8, *GRID))
    image, _ = blot((96, 128), (40, 32, 80, 72), (60, 140, 70), (200, 60, 50))
    return features.astype(np.float32), image, cells


@pytest.mark.parametrize("method", DISCOVERY)
@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_planted_object_is_found(planted, method, colour):
    features, image, cells = planted
    settings = SpectralSettings(method, colour=colour, tau=0.9)
    found = discover(features, image, settings)
    assert found.shape == GRID
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert found[cells].min() > found[~cells].max(), "each of its cells is above all others"
    np.testing.assert_array_equal(found, discover(features, image, settings))


def test_border_cut_needs_no_contrast_of_sizes(planted):
    """An object of most of the image is found, where the smaller side of a cut would be the background."""
    features, image, _ = planted
    large = np.zeros(GRID, bool)
    large[1:-1, 2:-2] = True
    rng = np.random.default_rng(1)
    inside, outside = rng.random((2, 8))
    features = np.where(large, inside[:, None, None], outside[:, None, None]) + 0.02 * rng.random((8, *GRID))
    cut = discover(features, image, SpectralSettings("border_cut", colour=0))
    smaller = discover(features, image, SpectralSettings("deep_spectral", colour=0))
    assert cut[large].mean() > cut[~large].mean() + 0.3
    assert smaller[large].mean() < smaller[~large].mean()


@pytest.mark.parametrize("size", [(4, 5), (15, 20)])
@pytest.mark.parametrize("border", [0.0, 0.7])
def test_vectors_solve_the_generalised_problem(size, border):
    """Of (D - W) y + D B y = λ D y, by a dense solver of the generalised problem in float64."""
    rng = np.random.default_rng(2)
    count = size[0] * size[1]
    affinity = rng.random((count, count))
    affinity += affinity.T
    penalty = border * off_centre(size, 0.25)
    degree = np.diag(affinity.sum(1))
    expected = eigh(degree - affinity + degree @ np.diag(penalty), degree)[1][:, :2]
    found = _first_vectors(affinity, 2, penalty)
    for one, other in zip(found.T, expected.T, strict=True):
        assert abs(one @ other) / np.linalg.norm(one) / np.linalg.norm(other) == pytest.approx(1, abs=1e-6)
    if border:
        assert (found[:, 0] > 0).all() or (found[:, 0] < 0).all(), "Perron and Frobenius: one sign"


def test_affinities_by_hand():
    features = np.array([[[3.0, 0.0]], [[0.0, 2.0]]])
    np.testing.assert_allclose(unit_features(features, False), np.eye(2))
    np.testing.assert_allclose(feature_affinity(np.eye(2), 0.5), [[1, np.exp(-2)], [np.exp(-2), 1]])
    centred = unit_features(features, True)
    np.testing.assert_allclose(centred @ centred.T, [[1, -1], [-1, 1]])
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = 255  # L is 0 and 100
    np.testing.assert_allclose(colour_affinity(image, (1, 2), 0.5)[0, 1], np.exp(-2), rtol=1e-4)
    far = off_centre((3, 3), 0.25).reshape(3, 3)
    assert far[1, 1] == 0
    assert far[0, 1] == pytest.approx(1 - np.exp(-((1 / 3 / 0.25) ** 2) / 2))
    np.testing.assert_allclose(far, far[::-1, ::-1].T)


@pytest.mark.parametrize("method", DISCOVERY)
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (1, 9), (2, 2), (3, 70)])
@pytest.mark.parametrize("kind", ["random", "zeros", "constant", "one cell"])
def test_hostile_features(method, grid, kind):
    features = np.random.default_rng(3).normal(size=(4, *grid)).astype(np.float32)
    if kind == "zeros":
        features[:] = 0
    elif kind == "constant":
        features[:] = features[:, :1, :1]
    elif kind == "one cell":
        features[:] = 0
        features[0, 0, 0] = 1
    image = np.random.default_rng(4).integers(0, 256, (3, 50, 3)).astype(np.uint8)
    found = discover(features, image, SpectralSettings(method))
    assert found.shape == grid
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    if kind in ("zeros", "constant"):
        assert not found.any(), "nothing stands out"
