"""Means of the handcrafted methods."""

from collections.abc import Sequence

import numpy as np

from castlit.saliency.algorithms.hierarchy import hs
from castlit.saliency.algorithms.markov_chain import mc
from castlit.saliency.algorithms.reconstruction import dsr
from castlit.saliency.algorithms.refine import finish, sharpen
from castlit.saliency.algorithms.robust_background import rbd
from castlit.saliency.algorithms.superpixels import Image, Map, stretch

DSR_SCALES = (100, 200, 300, 400)
"""Every other scale of DSR: half the time, and the same metrics on photographs."""


def fast(image: Image) -> Map:
    """The mean of RBD and MC, aligned to the image's edges.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    return fuse(image, [rbd(image), mc(image)])


def fused(image: Image) -> Map:
    """The mean of RBD, DSR, MC and HS, aligned to the image's edges.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    return fuse(image, [rbd(image), dsr(image, DSR_SCALES), mc(image), hs(image)])


def fuse(image: Image, maps: Sequence[Map]) -> Map:
    """Combine maps (H, W) of an image: the mean of the sharpened maps, as methods differ in how dark their maps are."""
    sharp = [sharpen(values) for values in maps if values.any()]
    return finish(image, stretch(np.mean(sharp, 0)).astype(np.float32)) if sharp else maps[0]
