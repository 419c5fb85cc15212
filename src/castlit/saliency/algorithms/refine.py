"""Align soft maps to the edges of their images and sharpen them."""

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.saliency.algorithms.superpixels import Image, Map, stretch

GRID = 64
"""Cells along the longer side on which the CRF is solved."""

GAIN = 10.0

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""The entries of a symmetric matrix of three rows that are stored."""


def finish(image: Image, values: Map) -> Map:
    """Align a method's map to the image's edges and sharpen it, as masks are cut at one half.

    On photographs this hardly changes the order of the pixels, and so the F-measure, but raises the intersection over
    union by a fifth and more (benchmarks/README.md).

    Args:
        image: (H, W, 3) RGB.
        values: (H, W) in [0, 1].

    Returns:
        (H, W) in [0, 1]; all 0 if ``values`` is.
    """
    return sharpen(guided_filter(image, values)) if values.any() else values


def sharpen(values: Map, gain: float = GAIN) -> Map:
    """Stretch a map around its Otsu threshold (Otsu, 1979), which moves to about one half.

    Args:
        values: (H, W) in [0, 1].
        gain: Slope of the logistic curve; the larger, the nearer to a binary mask.

    Returns:
        (H, W) in [0, 1], in the same order.
    """
    level = otsu_level(np.asarray(values * 255, np.uint8))
    return np.asarray(stretch(1 / (1 + np.exp(-gain * (values.astype(np.float64) - level / 255)))), np.float32)


def otsu_level(levels: NDArray[np.uint8]) -> float:
    """The threshold (Otsu, 1979) of a two-dimensional array of levels; the upper class lies above it."""
    return cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0]


def guided_filter(guide: Image, values: Map, radius: int = 8, epsilon: float = 1e-3) -> Map:
    """Smooth a map, but not across the edges of its image (He, Sun, Tang: Guided Image Filtering, TPAMI 2013).

    In each window of 2 · radius + 1 pixels the map is modelled as a linear function of the colours.

    Args:
        guide: (H, W, 3) RGB.
        values: (H, W) in [0, 1].
        radius: Radius of the windows in pixels.
        epsilon: Variance of colour, in [0, 1]², up to which a window counts as smooth.

    Returns:
        (H, W) in [0, 1].
    """
    # Planes of one channel each: numpy is several times faster on them than on interleaved channels.
    colours = list(np.asarray(guide.transpose(2, 0, 1), np.float32, order="C") / np.float32(255))
    centre, level = [_mean(colour, radius) for colour in colours], _mean(values, radius)
    covariance = [
        _mean(colours[i] * colours[j], radius) - centre[i] * centre[j] + np.float32(epsilon if i == j else 0)
        for i, j in _PAIRS
    ]
    with_level = [_mean(colour * values, radius) - mean * level for colour, mean in zip(colours, centre, strict=True)]
    slopes = _solve(covariance, with_level)
    offset = level - sum(slope * mean for slope, mean in zip(slopes, centre, strict=True))
    smooth = sum(_mean(slope, radius) * colour for slope, colour in zip(slopes, colours, strict=True))
    return np.asarray(np.clip(smooth + _mean(offset, radius), 0, 1), np.float32)


def _solve(matrices: Sequence[Map], vectors: Sequence[Map]) -> list[Map]:
    """Solve a symmetric system of three equations for each pixel, by Cramer's rule.

    LAPACK takes a call for each of them, which is far slower. In float64, since cofactors cancel digits.

    Args:
        matrices: The six entries by :data:`_PAIRS`, each (H, W).
        vectors: The three right-hand sides.
    """
    a, b, c, d, e, f = (entry.astype(np.float64) for entry in matrices)
    x, y, z = (side.astype(np.float64) for side in vectors)
    # The cofactors, which are symmetric, too.
    ca, cb, cc, cd, ce, cf = d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b
    scale = 1 / (a * ca + b * cb + c * cc)
    solved = (ca * x + cb * y + cc * z, cb * x + cd * y + ce * z, cc * x + ce * y + cf * z)
    return [np.asarray(each * scale, np.float32) for each in solved]


def crf(
    image: Image,
    values: Map,
    steps: int = 5,
    colour_weight: float = 3.0,
    place_weight: float = 1.0,
    colour_sigma: float = 0.08,
    far_sigma: float = 0.2,
    near_sigma: float = 0.02,
) -> Map:
    """Refine a map by a fully connected CRF (Krähenbühl and Koltun, NeurIPS 2011).

    The mean field is computed exactly on a grid of at most 64 cells a side, on which all pairs fit into memory, and
    upsampled along the image's edges.

    Args:
        image: (H, W, 3) RGB.
        values: (H, W), probability of object in [0, 1].
        steps: Mean field iterations.
        colour_weight: Weight of pairs near in colour and position, relative to a cell's own evidence.
        place_weight: Weight of pairs near in position.
        colour_sigma: σ of colours in [0, 1].
        far_sigma: σ of positions for the former pairs, in units of the longer side.
        near_sigma: σ of positions for the latter.

    Returns:
        (H, W) in [0, 1].
    """
    height, width = values.shape
    scale = min(1.0, GRID / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    belief = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32).ravel()
    colours = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32).reshape(-1, 3) / 255
    apart, close = _places(size, far_sigma, near_sigma)
    alike = np.exp(-apart - _squared_distances(colours) / (2 * colour_sigma**2))
    pairs = colour_weight * _normalised(alike) + place_weight * close
    sure = np.clip(belief, 0.02, 0.98)
    evidence = np.log(sure / (1 - sure))
    for _ in range(steps):
        belief = 1 / (1 + np.exp(-(evidence + pairs @ (2 * belief - 1))))
    back = cv2.resize(belief.reshape(size[::-1]), (width, height), interpolation=cv2.INTER_LINEAR)
    return guided_filter(image, np.asarray(back, np.float32), radius=max(2, round(1 / scale)))


@functools.lru_cache(2)
def _places(
    size: tuple[int, int], far_sigma: float, near_sigma: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the CRF takes from the cells' positions alone: exponents of the far kernel, and the near kernel.

    Images share few sizes, and this is half of the CRF's time. A size takes at most 128 MiB.
    """
    rows, columns = np.mgrid[: size[1], : size[0]]
    apart = _squared_distances(np.stack([columns.ravel(), rows.ravel()], 1) / max(size))
    far, close = apart / (2 * far_sigma**2), _normalised(np.exp(-apart / (2 * near_sigma**2)))
    far.flags.writeable = close.flags.writeable = False
    return np.asarray(far, np.float32), close


def _mean(x: NDArray[Any], radius: int) -> NDArray[np.float32]:
    side = 2 * radius + 1
    return np.asarray(cv2.blur(np.ascontiguousarray(x, np.float32), (side, side)), np.float32)


def _squared_distances(points: NDArray[Any]) -> NDArray[np.float32]:
    points = points.astype(np.float32)
    norms = (points**2).sum(1)
    return np.asarray(np.maximum(norms[:, None] + norms[None] - 2 * points @ points.T, 0), np.float32)


def _normalised(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Symmetric kernel normalisation, as in the paper, without a cell's weight for itself."""
    np.fill_diagonal(kernel, 0)
    root = 1 / np.sqrt(np.maximum(kernel.sum(1), 1e-12))
    return np.asarray(kernel * root[:, None] * root[None], np.float32)
