"""The results of a protocol: metrics by name, for one thing or for several."""

Results = dict[str, float]
"""Metrics by name: in [0, 100] if papers give them in per cent (mAP, AP, top-1), other fractions in [0, 1]."""

Table = dict[str, Results]
"""Metrics of several things, by name."""

Intervals = dict[str, dict[str, tuple[float, float]]]
"""Low and high end of the 95 % interval of a metric: by row, then by metric."""


class TableWithIntervals(Table):
    """A table whose metrics have 95 % intervals; ``results.json`` has these beside the results.

    Args:
        rows: The metrics.
        intervals: Their intervals; what has none is left out.
    """

    def __init__(self, rows: Table, intervals: Intervals) -> None:
        super().__init__(rows)
        self.intervals = intervals


def rows_of(results: Results | Table, alone: str) -> Table:
    """Return results as a table; single metrics become one row, or a row each if the results mix both forms.

    Args:
        results: A protocol's results.
        alone: Name of the row if all are single metrics.
    """
    if not any(isinstance(value, dict) for value in results.values()):
        return {alone: {name: value for name, value in results.items() if not isinstance(value, dict)}}
    return {name: value if isinstance(value, dict) else {"value": value} for name, value in results.items()}
