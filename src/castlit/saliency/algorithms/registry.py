"""The methods that need no training, by name."""

from collections.abc import Callable

import cv2
import numpy as np

from castlit.saliency.algorithms.baselines import all_ones, centre_gaussian, spectral_residual
from castlit.saliency.algorithms.fusion import fast, fused
from castlit.saliency.algorithms.hierarchy import hs
from castlit.saliency.algorithms.markov_chain import mc
from castlit.saliency.algorithms.reconstruction import dsr
from castlit.saliency.algorithms.robust_background import rbd
from castlit.saliency.algorithms.superpixels import Image, Map

HANDCRAFTED: dict[str, Callable[[Image], Map]] = {"rbd": rbd, "dsr": dsr, "mc": mc, "hs": hs}
"""The methods that DeepUSPS learns from."""


METHODS: dict[str, Callable[[Image], Map]] = {**HANDCRAFTED, "fast": fast, "fused": fused}
"""The handcrafted methods, and the qualities of ``castlit.make_masks`` that need no training."""

METHODS_VERSION = 2
"""Raised when their maps change: runs must not mix masks of two versions. Up to castlit 0.2 it was 1, and not noted."""

BASELINES: dict[str, Callable[[Image], Map]] = {
    "all_ones": all_ones,
    "centre_gaussian": centre_gaussian,
    "spectral_residual": spectral_residual,
}
"""What a method must beat."""

SIDE = 256
"""The longer side at which maps are made: larger images cost more and give no better superpixels."""


def shrink(image: Image, side: int = SIDE) -> Image:
    """Reduce an image whose longer side is above ``side`` to it."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
