"""MC: the expected length of a random walk over superpixels until the image's border absorbs it (Markov chain).

The equations are the paper's, and so are the links between all border superpixels, which serve better than the links
between opposite sides in its authors' published code. From that code: superpixels that no walk leaves are left out.
"""

import numpy as np
from numpy.typing import NDArray

from castlit.saliency.algorithms.superpixels import Floats, Image, Map, Superpixels, segment, stretch

COLOUR_SCALE = 10.0
"""1 / σ² for colour distances brought to [0, 1] (σ² = 0.1)."""

UNDECIDED = 2.0
"""The paper's threshold for :func:`undecidedness`."""

ALONE = 1.1
"""A superpixel whose affinities, with the 1 for itself, have a smaller sum is unlike all around it."""

SALIENT = 0.3
"""A superpixel that is alone is as salient as can be if a neighbour exceeds this."""


def mc(image: Image, count: int = 250) -> Map:
    """The expected time until a random walk that prefers similar neighbours is absorbed at the border.

    Jiang, Zhang, Lu, Yang, Yang: Saliency Detection via Absorbing Markov Chain, ICCV 2013.

    Args:
        image: (H, W, 3) RGB.
        count: Superpixels.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    regions = segment(image, count)
    return regions.to_pixels(mc_values(regions))


def mc_values(regions: Superpixels) -> Floats:
    """The saliency (n,) of superpixels, in [0, 1]."""
    if regions.uniform or regions.border.all():  # every walk is absorbed where it starts
        return np.zeros(len(regions))
    weights, to_border = walk_weights(regions)
    affinity = weights.sum(1)
    # A walk hardly ever leaves a superpixel that is alone: its time would flatten all others in the stretch.
    alone = affinity < ALONE
    if alone.all():
        return np.zeros(len(regions))
    values = _stretched_time(weights, to_border, np.ones(len(regions)), alone)
    if undecidedness(values[~alone]) >= UNDECIDED:
        # Walks are long in a large smooth background, too. Weight each step by the inverse of the superpixel's
        # equilibrium probability, which is its affinity over the total (equation 11).
        values = _stretched_time(weights, to_border, stretch(affinity.sum() / affinity), alone)
    beside = (regions.neighbours & (values > SALIENT)).any(1)
    return np.where(alone & beside, 1.0, values)


def _stretched_time(weights: Floats, to_border: Floats, step: Floats, alone: NDArray[np.bool_]) -> Floats:
    """The time in [0, 1] of the superpixels that are not alone; 0 for the others."""
    kept = np.flatnonzero(~alone)
    values = np.zeros(len(weights))
    values[kept] = stretch(absorbed_time(weights[np.ix_(kept, kept)], to_border[kept], step[kept]))
    return values


def walk_weights(regions: Superpixels) -> tuple[Floats, Floats]:
    """Affinities between superpixels (n, n), and to the absorbing copies of border superpixels (n,) (section 4.1).

    Superpixels are linked as in :attr:`Superpixels.linked`, and to themselves. A copy has its original's links.
    """
    linked = regions.linked
    np.fill_diagonal(linked, True)
    colour = regions.colour_distances
    weights = np.where(linked, np.exp(-COLOUR_SCALE * colour / max(colour.max(), 1e-12)), 0)
    return weights, weights[:, regions.border].sum(1)


def absorbed_time(weights: Floats, to_border: Floats, step: Floats) -> Floats:
    """The expected length (n,) of a walk until it is absorbed: (I − Q)⁻¹ step (equation 3).

    Args:
        weights: (n, n) affinities of the superpixels.
        to_border: (n,) affinities to the absorbing copies.
        step: (n,) weight of a step from each superpixel.
    """
    degrees = weights.sum(1) + to_border
    return np.asarray(np.linalg.solve(np.diag(degrees) - weights, degrees * step))


def undecidedness(values: Floats) -> float:
    """Σ g(t) · min(t, 11 − t) over a normalised histogram g of ten bins t = 1 … 10 (equation 10); in [1, 5]."""
    counts, _ = np.histogram(values, 10, (0, 1))
    t = np.arange(1, 11)
    return float((counts / len(values) * np.minimum(t, 11 - t)).sum())
