"""Means over seeds with 95 % intervals, and differences between configurations."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # scipy.stats.t.ppf calls it, and takes a second to import

BySeed = Mapping[int, Mapping[str, float]]
"""Seed → metric → value."""

ByConfiguration = Mapping[str, BySeed]
"""Configuration → seed → metric → value."""

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean with its interval."""

    mean: float
    half_width: float | None
    """Half the width of the interval that contains the true mean with 95 % confidence; None for a single value."""
    seeds: int
    """Number of values."""

    def __str__(self) -> str:
        """In per cent: all metrics of studies are fractions."""
        # Adding zero removes the sign of -0.0.
        mean = f"{round(100 * self.mean, 1) + 0.0:.1f}"
        return mean if self.half_width is None else f"{mean} ± {100 * self.half_width:.1f}"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with Student's t interval, which is exact for normally distributed values."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Estimate(mean, None, count)
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(mean, float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * spread, count)


def estimates(seeds: BySeed, metric: str) -> Estimate | None:
    """A configuration's mean over its seeds; None if no seed has the metric."""
    values = [metrics[metric] for metrics in seeds.values() if metric in metrics]
    return estimate(values) if values else None


def difference(seeds: BySeed, control: BySeed, metric: str) -> Estimate | None:
    """The mean of the differences from the control; pairing by seed removes the variation that both share."""
    both = [seed for seed in seeds if seed in control and metric in seeds[seed] and metric in control[seed]]
    return estimate([seeds[seed][metric] - control[seed][metric] for seed in both]) if both else None


def fewer_seeds(found: Estimate, expected: int) -> str:
    """What follows an estimate in a table: its number of seeds, if that is smaller than expected."""
    return f" (n={found.seeds})" if found.seeds < expected else ""
