"""RBD: contrast against regions connected to the image's border (robust background detection).

The equations are the paper's. Where the paper is silent, or its authors' published code differs, this follows the code:
σ of colours by the image, the free part of a step, the border as a band, positions relative to width and height, the
weights of the background, smoothness between direct neighbours only, and the clean-up of the contrast. Ours: the number
of superpixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist

from castlit.saliency.algorithms.refine import otsu_level
from castlit.saliency.algorithms.superpixels import Floats, Image, Map, Superpixels, segment, stretch

BORDER = 0.02
"""Width of the border band, as a fraction of the longer side: 8 of 400 pixels."""

PLACE_SIGMA = 0.4
CONNECTIVITY_SIGMA = 1.0
SURE_BACKGROUND, SURE_WEIGHT = 3.0, 1000.0
"""A superpixel of larger boundary connectivity is background with this weight."""

BACKGROUND_WEIGHT = 5.0
SMOOTHNESS_FLOOR = 0.1
TOP_FRACTION = 0.01


class ColourScales(NamedTuple):
    """Scales of the colour distances of one image, in units of Lab."""

    free: float
    """A step between neighbours costs only what exceeds this."""
    path: float
    """Sigma of the total colour change on a path."""
    smooth: float
    """Sigma of the difference between neighbours in the optimisation."""


def rbd(image: Image, count: int = 300, cleaned: bool = True) -> Map:
    """Contrast against the background, which is what is connected to the image's border.

    Zhu, Liang, Wei, Sun: Saliency Optimization from Robust Background Detection, CVPR 2014.

    Args:
        image: (H, W, 3) RGB.
        count: Superpixels. The authors take one for 600 pixels, 200 at 400 × 300.
        cleaned: Set contrasts below their Otsu threshold to 0, as the authors do; the errors become smaller, and masks
            cut at one half of the map lose parts of objects.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    regions = segment(image, count)
    return regions.to_pixels(rbd_values(regions, cleaned))


def rbd_values(regions: Superpixels, cleaned: bool = True) -> Floats:
    """The saliency (n,) of superpixels, in [0, 1]."""
    if regions.uniform or len(regions) < 3:
        return np.zeros(len(regions))
    border, scales = regions.near_border(BORDER), colour_scales(regions)
    connectivity = boundary_connectivity(regions, border, scales)
    background = 1 - np.exp(-(connectivity**2) / (2 * CONNECTIVITY_SIGMA**2))
    contrast = background_weighted_contrast(regions, background)
    weight = BACKGROUND_WEIGHT * np.where(connectivity > SURE_BACKGROUND, SURE_WEIGHT, background)
    return stretch(optimise(regions, border, weight, clean(contrast) if cleaned else contrast, scales.smooth))


def colour_scales(regions: Superpixels) -> ColourScales:
    """Scales from the image's smallest differences between neighbours, and its largest differences of all."""
    colour = regions.colour_distances
    smallest = _mean_of_smallest(colour, regions.neighbours)
    every = np.sort(colour.ravel())[::-1]
    largest = float(every[: max(1, round(TOP_FRACTION * every.size))].mean())
    return ColourScales(
        free=_mean_of_smallest(colour, regions.two_rings),
        path=max(5.0, min(10.0, 3 * smallest, largest / 10)),
        smooth=max(min(20.0, 3 * smallest, 0.2 * largest), 1e-6),
    )


def boundary_connectivity(regions: Superpixels, border: NDArray[np.bool_], scales: ColourScales) -> Floats:
    """Each region's length along the border over the root of its area (equations 2 to 6), (n,); large on background.

    A superpixel's area is the soft count of superpixels that a path with little colour change reaches.
    """
    reached = np.exp(-(geodesic_distances(regions, border, scales.free) ** 2) / (2 * scales.path**2))
    length: Floats = reached[:, border].sum(1)
    return np.asarray(length / np.sqrt(reached.sum(1)))


def geodesic_distances(regions: Superpixels, border: NDArray[np.bool_], free: float) -> Floats:
    """(n, n): the smallest total colour change on a path between two superpixels.

    Border superpixels are neighbours of one another (section 3.2). Small changes within a region would add up, so a
    step costs only what exceeds ``free``.
    """
    colour = regions.colour_distances
    linked = regions.neighbours | np.outer(border, border)
    np.fill_diagonal(linked, False)
    steps = np.maximum(colour - free, 0)
    # In a sparse graph, 0 would mean no edge.
    rows, columns = np.nonzero(linked)
    graph = csr_array((np.maximum(steps[rows, columns], 1e-9), (rows, columns)), shape=colour.shape)
    return np.asarray(shortest_path(graph, method="FW"))


def background_weighted_contrast(regions: Superpixels, background: Floats) -> Floats:
    """Each superpixel's colour difference from the background, weighted by nearness (equation 7), (n,) in [0, 1]."""
    places = regions.relative_centres
    near = np.exp(-cdist(places, places, "sqeuclidean") / (2 * PLACE_SIGMA**2))
    return stretch((regions.colour_distances * near) @ background)


def clean(contrast: Floats) -> Floats:
    """Set values in [0, 1] below their Otsu threshold (Otsu, 1979) to 0."""
    levels = np.asarray(contrast * 255, np.uint8)
    return np.where(levels <= otsu_level(levels[None]), 0, contrast)


def optimise(
    regions: Superpixels, border: NDArray[np.bool_], background: Floats, foreground: Floats, sigma: float
) -> Floats:
    """Combine background, foreground and smoothness in one least-squares problem (equation 9), (n,).

    Superpixels are smoothed with those in two rings around them, border superpixels with one another.
    """
    linked = regions.two_rings | np.outer(border, border)
    np.fill_diagonal(linked, False)
    smooth = np.where(linked, np.exp(-(regions.colour_distances**2) / (2 * sigma**2)), 0)
    smooth += SMOOTHNESS_FLOOR * regions.neighbours
    system = np.diag(background + foreground + smooth.sum(1)) - smooth
    # A superpixel without any evidence makes the system singular; the tiny weight makes it background.
    system[np.diag_indices_from(system)] += 1e-9
    return np.asarray(np.linalg.solve(system, foreground))


def _mean_of_smallest(colour: Floats, linked: NDArray[np.bool_]) -> float:
    """The mean, over superpixels, of the smallest distance to a linked one; 0 where there is none."""
    smallest = np.where(linked, colour, np.inf).min(1)
    smallest = smallest[np.isfinite(smallest)]
    return float(smallest.mean()) if len(smallest) else 0.0
