"""The results of a protocol: metrics by name, for one thing or for several."""

Results = dict[str, float]
"""Figures by name: those that papers give in per cent (mAP, AP, top-1) in [0, 100], all other shares in [0, 1]."""

Table = dict[str, Results]
"""The figures of each of several things."""


def rows_of(results: Results | Table, alone: str) -> Table:
    """Results as a table; figures that stand alone become one row, or a row of its own each where others have several.

    Args:
        results: What a protocol gave.
        alone: The row's name, where all figures stand alone.
    """
    if not any(isinstance(value, dict) for value in results.values()):
        return {alone: {name: value for name, value in results.items() if not isinstance(value, dict)}}
    return {name: value if isinstance(value, dict) else {"value": value} for name, value in results.items()}
