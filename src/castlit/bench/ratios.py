"""Ratios of times that were measured in turn."""

import statistics


def median_ratio(numerators: list[float], denominators: list[float], digits: int) -> float:
    """The median over the rounds of the ratio of two times, rounded."""
    return round(statistics.median(a / b for a, b in zip(numerators, denominators, strict=True)), digits)
