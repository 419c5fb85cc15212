"""HS: hierarchical saliency, contrast on several scales.

The equations are the paper's. Ours: superpixels in place of its watershed regions, positions relative to width and
height, the regions' sizes for images of 256 pixels, how fast nearness falls, a link twice as strong between the layers,
and an exact solution in place of message passing.
"""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve
from scipy.spatial.distance import cdist

from castlit.saliency.algorithms.superpixels import Floats, Image, Map, Superpixels, describe, segment, stretch, to_lab

COUNT = 600
"""Superpixels of the first layer."""

SCALES = (11, 33)
"""Sides in pixels of the square that fits into each region of the second and third layer, in an image of 256 pixels."""

OWN_WEIGHTS = (0.5, 4.0, 2.0)
LINK_WEIGHT = 8.0
NEARNESS = 0.1
"""Squared distance over which nearness falls to 1/e, where width and height are 1."""

CENTRE_DECAY = 9.0


def hs(image: Image, count: int = COUNT) -> Map:
    """Local contrast in layers of growing regions, made consistent over the tree that they form.

    Yan, Xu, Shi, Jia: Hierarchical Saliency Detection, CVPR 2013.

    Args:
        image: (H, W, 3) RGB.
        count: Superpixels of the first layer.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    return hs_map(image, segment(image, count))


def hs_map(image: Image, finest: Superpixels) -> Map:
    """Like :func:`hs`, for the first layer's superpixels."""
    layers = [finest]
    if finest.uniform:
        return np.zeros(image.shape[:2], np.float32)
    for scale in SCALES:
        layers.append(merge_small(image, layers[-1], scale))
    return layers[0].to_pixels(stretch(agree(layers, [cue(layer) for layer in layers])))


def cue(regions: Superpixels) -> Floats:
    """Local contrast by nearness to the centre (equations 2 to 4), (n,) in [0, 1]."""
    centres = regions.relative_centres
    nearness = np.exp(-cdist(centres, centres, "sqeuclidean") / NEARNESS)
    contrast = stretch((nearness * regions.colour_distances) @ (regions.sizes / regions.sizes.sum()))
    height, width = regions.labels.shape
    rows, columns = np.mgrid[:height, :width]
    off_centre = ((columns + 0.5) / width - 0.5) ** 2 + ((rows + 0.5) / height - 0.5) ** 2
    central = np.bincount(regions.labels.ravel(), np.exp(-CENTRE_DECAY * off_centre).ravel()) / regions.sizes
    return stretch(contrast * central)


def agree(layers: list[Superpixels], cues: list[Floats]) -> Floats:
    """Minimise the tree's energy given the layers' cues (equations 5 to 7); the first layer's values, (n,).

    The energy is quadratic, so one sparse solve finds the minimum that the paper finds by message passing.
    """
    starts = np.cumsum([0, *map(len, layers)])
    own = np.concatenate([np.full(len(layer), weight) for layer, weight in zip(layers, OWN_WEIGHTS, strict=True)])
    children, parents = [], []
    for level, (fine, coarse) in enumerate(pairwise(layers)):
        parent = np.zeros(len(fine), np.int64)
        parent[fine.labels.ravel()] = coarse.labels.ravel()
        children.append(starts[level] + np.arange(len(fine)))
        parents.append(starts[level + 1] + parent)
    rows, columns = np.concatenate(children), np.concatenate(parents)
    links = coo_array((np.full(len(rows), LINK_WEIGHT), (rows, columns)), shape=(starts[-1], starts[-1]))
    links = links + links.T
    system = diags_array(own + links.sum(1)) - links
    values = spsolve(system.tocsc(), own * np.concatenate(cues))
    return np.asarray(values[: len(layers[0])])


def merge_small(image: Image, regions: Superpixels, scale: int) -> Superpixels:
    """Merge regions into which no square of ``scale`` pixels fits with the neighbour of nearest colour."""
    lab = to_lab(image)
    while len(regions) > 1:
        small = np.flatnonzero(square_sides(regions.labels, len(regions)) < scale)
        if len(small) == 0:
            break
        target = np.arange(len(regions))
        nearest = np.where(regions.neighbours, regions.colour_distances, np.inf).argmin(1)
        for region in small[np.argsort(regions.sizes[small])].tolist():
            if target[region] == region:  # not merged yet in this pass
                root = target[nearest[region]]
                target[target == region] = root
        if (target == np.arange(len(regions))).all():
            break
        _, numbers = np.unique(target, return_inverse=True)
        regions = describe(image, lab, numbers.astype(np.int32)[regions.labels])
    return regions


def square_sides(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """The side (n,) in pixels of the largest square that fits into each region."""
    padded = np.pad(labels, 1, constant_values=-1)
    inner = np.ones(labels.shape, bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            inner &= padded[1 + dy : 1 + dy + labels.shape[0], 1 + dx : 1 + dx + labels.shape[1]] == labels
    # 0 on the outermost pixels of each region; d on those whose square of 2 d + 1 lies inside.
    depth = cv2.distanceTransform(np.pad(inner, 1).astype(np.uint8), cv2.DIST_C, 3)[1:-1, 1:-1]
    # Of several values for one region, the last assigned stays: the largest.
    flat = np.asarray(depth.ravel().round(), np.uint16)
    order = np.argsort(flat, kind="stable")
    deepest = np.zeros(count, np.int64)
    deepest[labels.ravel()[order]] = flat[order]
    return 2 * deepest + 1
