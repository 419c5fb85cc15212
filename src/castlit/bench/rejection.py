"""The yardstick for crops: the published sampler, which draws up to ten times and then gives up on its limits."""

import math

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box

TRIES = 10


def rejection_box(mask: NDArray[np.uint8], min_coverage: float, rng: np.random.Generator) -> Box:
    """One box as the reference code draws it: ``RandomResizedCrop``'s proposals until one covers enough.

    Args:
        mask: (H, W) of {0, 1}.
        min_coverage: Smallest share of the salient pixels, in [0, 1].
        rng: Source of the draws.
    """
    height, width = mask.shape
    salient = mask.sum()
    for _ in range(TRIES):
        area = rng.uniform(0.2, 1.0) * height * width
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            if mask[y : y + h, x : x + w].sum() / max(1, salient) >= min_coverage:
                return x, y, x + w, y + h
    # Around the objects, whatever size that is.
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(ys) == 0:
        return 0, 0, width, height
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
