"""Ratios of times that were measured in turn."""

import math
import statistics

CONFIDENCE = 0.95


def median_ratio(numerators: list[float], denominators: list[float], digits: int) -> float:
    """The median over the rounds of the ratio of two times, rounded."""
    return round(statistics.median(_ratios(numerators, denominators)), digits)


def ratio_interval(numerators: list[float], denominators: list[float], digits: int) -> list[float]:
    """A confidence interval of that median: two of the rounds' ratios, as many below the one as above the other.

    Nothing is assumed of the ratios' distribution. Fewer than six rounds are too few for :data:`CONFIDENCE`; then the
    interval spans all of them.

    Source: the sign test; e.g. Conover, "Practical Nonparametric Statistics", 1999, section 3.2.

    Returns:
        The lower and the upper end, rounded.
    """
    ratios = sorted(_ratios(numerators, denominators))
    left_out = _left_out(len(ratios))
    return [round(ratios[left_out], digits), round(ratios[-1 - left_out], digits)]


def _ratios(numerators: list[float], denominators: list[float]) -> list[float]:
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def _left_out(rounds: int) -> int:
    """How many ratios lie outside of the interval at each end: the number of those below the median is binomial."""
    allowed = (1 - CONFIDENCE) / 2 * 2**rounds
    below, left_out = 1, 0  # the ways in which at most `left_out` of the rounds are below the median
    while below <= allowed:
        left_out += 1
        below += math.comb(rounds, left_out)
    return max(0, left_out - 1)
