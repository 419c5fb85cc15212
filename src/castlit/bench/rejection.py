"""The baseline for crops: the published rejection sampler, which ignores its limits after ten tries."""

import math

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box

TRIES = 10


def rejection_box(mask: NDArray[np.uint8], min_coverage: float, rng: np.random.Generator) -> Box:
    """Sample a box as the reference code does: ``RandomResizedCrop``'s proposals until one covers enough.

    Args:
        mask: (H, W) of {0, 1}.
        min_coverage: Smallest fraction of the salient pixels, in [0, 1].
        rng: Random generator.
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
    # The objects' bounding box, whatever its size.
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(ys) == 0:
        return 0, 0, width, height
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
