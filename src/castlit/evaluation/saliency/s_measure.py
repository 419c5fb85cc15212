"""The S-measure (Fan et al., ICCV 2017)."""

import numpy as np

from castlit.evaluation.saliency.thresholds import Inside, Values


def s_measure(values: Values, inside: Inside) -> float:
    """Half structural similarity by object, half by region, of a map (H, W) in [0, 1]; not below 0."""
    fraction = float(inside.mean())
    if fraction in (0.0, 1.0):
        return float(values.mean()) if fraction else 1 - float(values.mean())
    by_object = fraction * _evenness(values[inside]) + (1 - fraction) * _evenness(1 - values[~inside])
    return max(0.0, 0.5 * by_object + 0.5 * _by_region(values, inside))


def _evenness(x: Values) -> float:
    """How close to 1, and how even, values are that should be 1."""
    mean = float(x.mean())
    deviation = float(x.std(ddof=1)) if x.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation)


def _by_region(values: Values, inside: Inside) -> float:
    """Similarity in the four rectangles that meet at the object's centre of mass, weighted by their areas."""
    height, width = inside.shape
    rows, columns = np.nonzero(inside)
    # The upper and left rectangles include the row and column of the centre.
    y, x = int(rows.mean().round()) + 1, int(columns.mean().round()) + 1
    total = 0.0
    for down in (slice(0, y), slice(y, height)):
        for across in (slice(0, x), slice(x, width)):
            part = inside[down, across]
            if part.size:
                total += part.size / inside.size * _similarity(values[down, across], part.astype(np.float64))
    return total


def _similarity(x: Values, y: Values) -> float:
    """Structural similarity of two rectangles, without constants."""
    mean_x, mean_y = float(x.mean()), float(y.mean())
    freedom = max(x.size - 1, 1)
    spread = float(((x - mean_x) ** 2).sum() + ((y - mean_y) ** 2).sum()) / freedom
    together = float(((x - mean_x) * (y - mean_y)).sum()) / freedom
    above = 4 * mean_x * mean_y * together
    below = (mean_x**2 + mean_y**2) * spread
    if above == 0:
        return 1.0 if below == 0 else 0.0
    return above / below
