"""The four handcrafted methods together: where they agree, each one's own mistakes are outvoted."""

import numpy as np

from castlit.saliency.hierarchy import hs
from castlit.saliency.markov_chain import mc
from castlit.saliency.reconstruction import dsr
from castlit.saliency.refine import crf
from castlit.saliency.robust_background import rbd
from castlit.saliency.superpixels import Image, Map, stretch


def fused(image: Image) -> Map:
    """The mean of RBD, DSR, MC and HS, brought to the image's edges by a CRF.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        (H, W) in [0, 1]; all 0 where nothing stands out.
    """
    return fuse(image, [rbd(image), dsr(image), mc(image), hs(image)])


def fuse(image: Image, maps: list[Map]) -> Map:
    """Combine maps (H, W) of an image."""
    mean = stretch(np.mean(maps, 0)).astype(np.float32)
    if not mean.any():
        return mean
    return np.asarray(stretch(crf(image, mean)), np.float32)
