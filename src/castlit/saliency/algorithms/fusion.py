"""Means of the handcrafted methods."""

from collections.abc import Sequence

import numpy as np

from castlit.saliency.algorithms.hierarchy import hs
from castlit.saliency.algorithms.markov_chain import mc_values
from castlit.saliency.algorithms.reconstruction import dsr_map
from castlit.saliency.algorithms.refine import finish, sharpen
from castlit.saliency.algorithms.robust_background import rbd_values
from castlit.saliency.algorithms.superpixels import Image, Map, segment, stretch

COUNT = 300
"""Superpixels of RBD and MC."""

DSR_SCALES = (100, 200, 300, 400)
"""Every other scale of DSR: half the time, and the same metrics on photographs."""


def fast(image: Image) -> Map:
    """The mean of RBD and MC, aligned to the image's edges.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    regions = segment(image, COUNT)
    return fuse(image, [regions.to_pixels(values(regions)) for values in (rbd_values, mc_values)])


def fused(image: Image) -> Map:
    """The mean of RBD, DSR, MC and HS, aligned to the image's edges.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    regions = segment(image, COUNT)
    maps = [regions.to_pixels(values(regions)) for values in (rbd_values, mc_values)]
    layers = [regions if count == COUNT else segment(image, count) for count in DSR_SCALES]
    return fuse(image, [*maps, dsr_map(image, layers), hs(image)])


def fuse(image: Image, maps: Sequence[Map]) -> Map:
    """Combine maps (H, W) of an image: the mean of the sharpened maps, as methods differ in how dark their maps are."""
    sharp = [sharpen(values) for values in maps if values.any()]
    return finish(image, stretch(np.mean(sharp, 0)).astype(np.float32)) if sharp else maps[0]
