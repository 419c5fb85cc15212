"""How contestants that ran in turn compare."""

import statistics


def median_ratio(numerators: list[float], denominators: list[float], digits: int) -> float:
    """The median over the rounds of one's seconds over the other's, rounded."""
    return round(statistics.median(a / b for a, b in zip(numerators, denominators, strict=True)), digits)
