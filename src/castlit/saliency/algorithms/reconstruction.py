"""DSR: errors of a dense and a sparse reconstruction from the image's border.

The equations are the paper's. As in its authors' published code: Lab is stretched by the image, positions are relative
to width and height, and one variance holds for all clusters. Ours: histograms are smoothed, there are 16 clusters in
place of 8, the components keep 99 % of the variance in place of 95 %, and the border is a band.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.linalg import solve_triangular
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import cdist

from castlit.saliency.algorithms.superpixels import Floats, Image, Map, Superpixels, segment, stretch, to_lab

SCALES = (50, 100, 150, 200, 250, 300, 350, 400)
"""Number of superpixels at each scale."""

SPARSITY = 0.01
CLUSTERS = 16
PROPAGATION = 0.5
OBJECT_SIGMA = 0.25
VARIANCE_KEPT = 0.99
BORDER = 0.02
"""Width of the border band, as a fraction of the longer side."""

HISTOGRAM_SIGMA = 3.0
"""Width in bins by which histograms are smoothed."""


def dsr(image: Image, scales: Sequence[int] = SCALES) -> Map:
    """The errors of reconstructing an image from the superpixels at its border.

    Li, Lu, Zhang, Ruan, Yang: Saliency Detection via Dense and Sparse Reconstruction, ICCV 2013.

    Args:
        image: (H, W, 3) RGB.
        scales: Number of superpixels at each scale.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    return dsr_map(image, [segment(image, count) for count in scales])


def dsr_map(image: Image, layers: Sequence[Superpixels]) -> Map:
    """Like :func:`dsr`, for superpixels of the image at each scale."""
    if any(regions.uniform for regions in layers):
        return np.zeros(image.shape[:2], np.float32)
    dense: list[Map] = []
    sparse: list[Map] = []
    similar = []
    pixels = pixel_features(image)
    single = pixels.astype(np.float32)
    for regions in layers:
        features = regions.means(pixels)
        border = features[regions.near_border(BORDER)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of clusters that stay empty
            clusters = kmeans2(features, min(CLUSTERS, len(regions)), minit="++", rng=0)[1]
        for errors, maps in ((dense_errors(features, border), dense), (sparse_errors(features, border), sparse)):
            maps.append(regions.to_pixels(stretch(propagate(errors, features, clusters))))
        apart = single - features.astype(np.float32)[regions.labels]
        similar.append(1 / np.maximum(np.sqrt(np.einsum("hwc,hwc->hw", apart, apart)), 1e-2))
    weights = np.stack(similar) / np.sum(similar, 0)
    one, other = (stretch(towards_object(stretch((np.stack(found) * weights).sum(0)))) for found in (dense, sparse))
    return np.asarray(stretch(bayesian(one, other)), np.float32)


def pixel_features(image: Image) -> Floats:
    """Lab, RGB and position of each pixel as (H, W, 8), each in [0, 1]; Lab's channels stretched to all of it."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([(columns + 0.5) / width, (rows + 0.5) / height], -1)
    lab = np.stack([stretch(channel) for channel in np.moveaxis(to_lab(image), -1, 0)], -1)
    return np.asarray(np.concatenate([lab, image / 255.0, places], -1), np.float64)


def dense_errors(features: Floats, border: Floats) -> Floats:
    """Squared errors (n,) of a reconstruction from the border's principal components (equations 2 and 3)."""
    mean = border.mean(0)
    _, singular, components = np.linalg.svd(border - mean, full_matrices=False)
    power = np.cumsum(singular**2)
    kept = components[: int(np.searchsorted(power, VARIANCE_KEPT * power[-1])) + 1]
    centred = features - mean
    return np.asarray(((centred - centred @ kept.T @ kept) ** 2).sum(1))


def sparse_errors(features: Floats, border: Floats, steps: int = 150) -> Floats:
    """Squared errors (n,) of a sparse combination of the border's superpixels (equations 4 and 5).

    min ‖x − Bα‖² + λ ‖α‖₁ for all superpixels at once, by FISTA (Beck and Teboulle, 2009).
    """
    # Single precision is enough and takes half the time.
    vectors, basis = features.astype(np.float32), border.astype(np.float32)
    gram, aligned = basis @ basis.T, basis @ vectors.T
    step = np.float32(1 / np.linalg.norm(gram, 2))
    shrinkage = step * np.float32(SPARSITY / 2)
    current = momentum = np.zeros_like(aligned)
    t = 1.0
    for _ in range(steps):
        moved = momentum - step * (gram @ momentum - aligned)
        found = moved - np.clip(moved, -shrinkage, shrinkage)
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        momentum = found + np.float32((t - 1) / t_next) * (found - current)
        current, t = found, t_next
    return np.asarray(((features - current.T @ basis) ** 2).sum(1), np.float64)


def propagate(errors: Floats, features: Floats, clusters: NDArray[np.int32]) -> Floats:
    """Smooth errors within clusters, from the largest error down (equations 6 and 7), (n,)."""
    smoothed = errors.copy()
    # The mean, over the features' dimensions, of their variances over the image.
    variance = 2 * max(float(features.var(0).mean()), 1e-12)
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        members = members[np.argsort(-errors[members], kind="stable")]
        distances = cdist(features[members], features[members], "sqeuclidean")
        # Each takes a mean over those before it, which is a triangular system.
        before = np.tril(np.exp(-distances / variance), -1)
        before /= np.maximum(before.sum(1, keepdims=True), 1e-300)
        own = np.where(np.arange(len(members)) > 0, 1 - PROPAGATION, 1.0) * errors[members]
        smoothed[members] = solve_triangular(np.eye(len(members)) - PROPAGATION * before, own, lower=True)
    return np.asarray(smoothed)


def towards_object(errors: Floats) -> Floats:
    """Weigh a map (H, W) by a Gaussian around its own centre of mass (equations 9 and 10)."""
    height, width = errors.shape
    rows, columns = np.mgrid[:height, :width]
    mass = max(float(errors.sum()), 1e-12)
    x, y = float((columns * errors).sum()) / mass, float((rows * errors).sum()) / mass
    across, down = (columns - x) / (OBJECT_SIGMA * width), (rows - y) / (OBJECT_SIGMA * height)
    return np.asarray(errors * np.exp(-(across**2 + down**2) / 2))


def bayesian(one: Floats, other: Floats) -> Floats:
    """Fuse two maps: each is the prior for the other, and the posteriors are added (equations 11 to 14), (H, W)."""
    return posterior(one, other) + posterior(other, one)


def posterior(prior: Floats, seen: Floats, bins: int = 60) -> Floats:
    """The probability (H, W) of object given ``seen``, from its histograms above and below the prior's mean."""
    level = np.minimum((seen * bins).astype(int), bins - 1)
    on_object = prior >= prior.mean()
    likelihoods = []
    for where in (on_object, ~on_object):
        counts = np.bincount(level[where], minlength=bins).astype(np.float64)
        counts = gaussian_filter1d(counts, HISTOGRAM_SIGMA, mode="nearest")
        likelihoods.append((counts / max(float(counts.sum()), 1e-12))[level])
    numerator = prior * likelihoods[0]
    return np.asarray(numerator / np.maximum(numerator + (1 - prior) * likelihoods[1], 1e-12))
