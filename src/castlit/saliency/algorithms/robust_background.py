"""RBD: contrast against regions connected to the image's border (robust background detection)."""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist

from castlit.saliency.algorithms.superpixels import Floats, Image, Map, Superpixels, segment, stretch

COLOUR_SIGMA = 10.0
PLACE_SIGMA = 0.25
CONNECTIVITY_SIGMA = 1.0
SMOOTHNESS_FLOOR = 0.1


def rbd(image: Image, count: int = 200) -> Map:
    """Contrast against the background, which is what is connected to the image's border.

    Zhu, Liang, Wei, Sun: Saliency Optimization from Robust Background Detection, CVPR 2014.

    Args:
        image: (H, W, 3) RGB.
        count: Superpixels.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    regions = segment(image, count)
    return regions.to_pixels(rbd_values(regions))


def rbd_values(regions: Superpixels) -> Floats:
    """The saliency (n,) of superpixels, in [0, 1]."""
    if regions.uniform:
        return np.zeros(len(regions))
    background = 1 - np.exp(-(boundary_connectivity(regions) ** 2) / (2 * CONNECTIVITY_SIGMA**2))
    return stretch(optimise(regions, background, background_weighted_contrast(regions, background)))


def boundary_connectivity(regions: Superpixels) -> Floats:
    """Each region's length along the border over the root of its area (equations 2 to 6), (n,); large on background.

    A superpixel's area is the soft count of superpixels that a path with little colour change reaches.
    """
    reached = np.exp(-(geodesic_distances(regions) ** 2) / (2 * COLOUR_SIGMA**2))
    length: Floats = reached[:, regions.border].sum(1)
    return np.asarray(length / np.sqrt(reached.sum(1)))


def geodesic_distances(regions: Superpixels) -> Floats:
    """(n, n): the smallest total colour change on a path between two superpixels.

    Border superpixels are neighbours of one another (section 3.2). Small changes within a region would add up, so a
    step costs only what exceeds the mean, over superpixels, of the smallest step (Wei et al., Geodesic Saliency,
    ECCV 2012).
    """
    colour = regions.colour_distances
    linked = regions.neighbours | np.outer(regions.border, regions.border)
    np.fill_diagonal(linked, False)
    if not linked.any():
        return np.zeros_like(colour)
    nearest = np.where(linked, colour, np.inf).min(1)
    steps = np.maximum(colour - nearest[np.isfinite(nearest)].mean(), 0)
    # In a sparse graph, 0 would mean no edge.
    rows, columns = np.nonzero(linked)
    graph = csr_array((np.maximum(steps[rows, columns], 1e-9), (rows, columns)), shape=colour.shape)
    return np.asarray(shortest_path(graph, method="D", directed=False))


def background_weighted_contrast(regions: Superpixels, background: Floats) -> Floats:
    """Each superpixel's colour difference from the background, weighted by nearness (equation 7), (n,) in [0, 1]."""
    near = np.exp(-cdist(regions.centres, regions.centres, "sqeuclidean") / (2 * PLACE_SIGMA**2))
    return stretch((regions.colour_distances * near) @ background)


def optimise(regions: Superpixels, background: Floats, foreground: Floats) -> Floats:
    """Combine background, foreground and smoothness in one least-squares problem (equation 9), (n,)."""
    smooth = np.where(
        regions.linked, np.exp(-(regions.colour_distances**2) / (2 * COLOUR_SIGMA**2)) + SMOOTHNESS_FLOOR, 0
    )
    system = np.diag(background + foreground + smooth.sum(1)) - smooth
    # A superpixel without any evidence makes the system singular; the tiny weight makes it background.
    system[np.diag_indices_from(system)] += 1e-9
    return np.asarray(np.linalg.solve(system, foreground))
