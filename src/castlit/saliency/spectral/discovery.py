"""Which cells of a feature map are the object: three published methods, and ``border_cut``."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from castlit.saliency.algorithms.superpixels import Floats, Image, Map, stretch
from castlit.saliency.spectral.affinity import (
    TINY,
    colour_affinity,
    feature_affinity,
    off_centre,
    unit_features,
)
from castlit.saliency.spectral.settings import SpectralSettings

Features = NDArray[np.floating]

_DENSE = 128  # cells up to which all eigenvectors are found faster than a few
_CENTRE_SIGMA = 0.25  # as castlit.saliency.algorithms.baselines.centre_gaussian has it


def discover(features: Features, image: Image, settings: SpectralSettings) -> Map:
    """Find the object in an image's features.

    Args:
        features: (C, h, w), of the upright image.
        image: (H, W, 3) RGB, of any size.
        settings: Method and parameters.

    Returns:
        (h, w) in [0, 1]; all 0 where nothing stands out.
    """
    grid = features.shape[1:]
    if np.ptp(features, (1, 2)).max() <= 1e-6 * np.abs(features).max():  # the same everywhere but for rounding
        return np.zeros(grid, np.float32)
    return np.asarray(_METHODS[settings.method](features, image, settings).reshape(grid), np.float32)


def border_cut(features: Features, image: Image, settings: SpectralSettings) -> Floats:
    """A normalised cut whose background is tied to the border.

    The normalised cut (Shi and Malik, TPAMI 2000) minimises yᵀ (D - W) y / yᵀ D y. Its first solution is constant and
    says nothing; its second parts the image into two halves and does not say which is the object. Here a term is added,
    yᵀ D B y, with B the probability that a position is background: 1 - a Gaussian in the centre. Then the constant is
    no solution, and the first eigenvector of D^-½ W D^-½ - B has one sign (Perron and Frobenius): large on what is
    near the middle and on all that is like it, small on what is like the border. No side has to be chosen.

    W is the product of feature and colour affinity: cells are linked where both are alike. The square root of the
    result makes up for its peak, before it is cut. Tie and product are castlit's own; the cut is the papers'.

    Returns:
        (h · w,) in [0, 1].
    """
    grid = (features.shape[1], features.shape[2])
    affinity = feature_affinity(unit_features(features, True), settings.sigma)
    if settings.colour > 0:
        affinity *= colour_affinity(image, grid, settings.colour_sigma) ** settings.colour
    np.fill_diagonal(affinity, 0)
    vectors = _first_vectors(affinity + TINY, 1, settings.border * off_centre(grid, _CENTRE_SIGMA))
    return np.sqrt(stretch(np.abs(vectors[:, 0])))


def tokencut(features: Features, image: Image, settings: SpectralSettings) -> Floats:
    """TokenCut (Wang et al., CVPR 2022): the second eigenvector of the normalised cut.

    Cells are linked by 1 where their cosine exceeds tau, and otherwise by 1e-5. The object is the side, parted at the
    eigenvector's mean, that has the entry of the largest magnitude. The paper's features are a ViT's keys; these are a
    layer's outputs.

    Returns:
        (h · w,) in [0, 1].
    """
    units = unit_features(features, False)
    affinity = np.where(units @ units.T > settings.tau, 1.0, 1e-5)
    second = _first_vectors(affinity, 2)[:, 1]
    object_side = second > second.mean()
    return stretch(second if object_side[np.abs(second).argmax()] else -second)


def lost(features: Features, image: Image, settings: SpectralSettings) -> Floats:
    """LOST (Siméoni et al., BMVC 2021): from a seed to the cells that correlate with it.

    The seed is the cell that correlates positively with the fewest others, since objects cover less than backgrounds.
    Those of the next ``seeds`` cells in this order that correlate with it join; the map is the sum of the correlations
    with these, where that is positive. Features are centred, as all correlations are positive after a ReLU; the paper
    has a ViT's keys, which have signs.

    Returns:
        (h · w,) in [0, 1].
    """
    units = unit_features(features, True)
    similar = units @ units.T
    order = np.argsort((similar > 0).sum(1), kind="stable")
    near = order[: settings.seeds]
    seeds = near[similar[order[0], near] > 0]
    return stretch(np.maximum(similar[seeds].sum(0), 0))


def deep_spectral(features: Features, image: Image, settings: SpectralSettings) -> Floats:
    """Deep Spectral Methods (Melas-Kyriazi et al., CVPR 2022): the Fiedler vector of features and colours.

    The affinity is the positive part of the features' cosines plus ``colour`` times the colour affinity. The paper's
    colours link each pixel to its nearest neighbours in colour and place; these link all cells by colour. The object is
    the smaller side of zero, as there.

    Returns:
        (h · w,) in [0, 1].
    """
    grid = (features.shape[1], features.shape[2])
    units = unit_features(features, True)
    affinity = np.maximum(units @ units.T, 0) + TINY
    if settings.colour > 0:
        affinity += settings.colour * colour_affinity(image, grid, settings.colour_sigma)
    second = _first_vectors(affinity, 2)[:, 1]
    return stretch(second if (second > 0).mean() < 0.5 else -second)


_METHODS: dict[str, Callable[[Features, Image, SpectralSettings], Floats]] = {
    "border_cut": border_cut,
    "tokencut": tokencut,
    "lost": lost,
    "deep_spectral": deep_spectral,
}


def _first_vectors(affinity: Floats, count: int, penalty: Floats | None = None) -> Floats:
    """The eigenvectors (n, count) of (D - W) y + D B y = λ D y with the smallest λ, in rising order.

    Args:
        affinity: W (n, n), symmetric and positive.
        count: Their number; where there are fewer cells, the last is repeated.
        penalty: The diagonal of B (n,).
    """
    degree = affinity.sum(1)
    scale = 1 / np.sqrt(degree)
    matrix = affinity * scale[:, None] * scale
    if penalty is not None:
        matrix[np.diag_indices_from(matrix)] -= penalty
    size = len(matrix)
    if size <= _DENSE:
        return np.asarray(_dense(matrix, count) * scale[:, None])
    try:
        # From a fixed start: equal images give equal maps.
        values, vectors = eigsh(matrix, count, which="LA", v0=np.sqrt(degree))
    except ArpackNoConvergence:
        return np.asarray(_dense(matrix, count) * scale[:, None])
    return np.asarray(vectors[:, np.argsort(-values)] * scale[:, None])


def _dense(matrix: Floats, count: int) -> Floats:
    vectors = eigh(matrix)[1][:, ::-1]
    return np.asarray(vectors[:, np.minimum(np.arange(count), len(matrix) - 1)])
