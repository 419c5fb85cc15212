"""MC: how long a walk from superpixel to superpixel lasts until the image's border absorbs it (Markov chain)."""

import numpy as np

from castlit.saliency.algorithms.superpixels import Floats, Image, Map, Superpixels, segment, stretch

COLOUR_SCALE = 10.0
"""1 / σ² for colour distances brought to [0, 1] (σ² = 0.1)."""

MIDDLING = 2.0
"""The paper's threshold: above it, too much of a map is neither salient nor not."""


def mc(image: Image, count: int = 250) -> Map:
    """Salient is where a random walk that prefers similar neighbours stays long before it ends at the border.

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
    if regions.uniform or regions.border.all():  # a walk from the border ends where it starts
        return np.zeros(len(regions))
    weights, to_border = walk_weights(regions)
    values = stretch(absorbed_time(weights, to_border, np.ones(len(regions))))
    if middling_share(values) < MIDDLING:
        return values
    # A long smooth background keeps walks for long too. There, each step counts by how seldom the superpixel is
    # visited in the long run: by the whole affinity over its own (equation 11).
    affinity = weights.sum(1)
    return stretch(absorbed_time(weights, to_border, stretch(affinity.sum() / affinity)))


def walk_weights(regions: Superpixels) -> tuple[Floats, Floats]:
    """Affinities between superpixels (n, n), and those (n,) to the absorbing copies of the border's (section 4.1).

    Linked are neighbours, their neighbours, and border superpixels with one another; each with itself. A copy is
    linked to what its original is linked to.
    """
    near = regions.neighbours.astype(np.float32)
    linked = (near + near @ near > 0) | np.outer(regions.border, regions.border)
    np.fill_diagonal(linked, True)
    colour = regions.colour_distances
    weights = np.where(linked, np.exp(-COLOUR_SCALE * colour / max(colour.max(), 1e-12)), 0)
    return weights, weights[:, regions.border].sum(1)


def absorbed_time(weights: Floats, to_border: Floats, step: Floats) -> Floats:
    """The expected length (n,) of a walk until it is absorbed: (I − Q)⁻¹ step (equation 3).

    Args:
        weights: (n, n) affinities of the superpixels.
        to_border: (n,) affinities to the absorbing ones.
        step: (n,) what a step from each superpixel counts.
    """
    degrees = weights.sum(1) + to_border
    return np.asarray(np.linalg.solve(np.diag(degrees) - weights, degrees * step))


def middling_share(values: Floats) -> float:
    """Σ g(t) · min(t, 11 − t) over a histogram of ten bins t = 1 … 10 with shares g (equation 10); in [1, 5]."""
    shares, _ = np.histogram(values, 10, (0, 1))
    t = np.arange(1, 11)
    return float((shares / len(values) * np.minimum(t, 11 - t)).sum())
