"""A protocol's metrics as rows and columns, with published ones: the same on a terminal and on a page."""

from collections.abc import Sequence
from typing import NamedTuple

from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table, TableWithIntervals, rows_of


class Layout(NamedTuple):
    """A table of formatted cells."""

    header: list[str]
    rows: list[list[str]]
    """The first cell is the row's name. A metric with an interval has half its width on a second line."""
    published_columns: int
    """Number of columns at the end with published metrics."""
    published_rows: int
    """Number of rows at the end with published metrics."""
    notes: list[str]
    """Sources of the published metrics, and what ± means."""


def lay_out(results: Results | Table, published: Sequence[PublishedRow] = ()) -> Layout:
    """Arrange results: a row per metric with published ones as columns; for a table, a row per thing evaluated.

    Args:
        results: A protocol's results.
        published: The published rows in its module.
    """
    marks = [f"{row.name} [published {'*' * (i + 1)}]" for i, row in enumerate(published)]
    notes = [f"{'*' * (i + 1)} published, not run here: {row.source}" for i, row in enumerate(published)]
    if any(isinstance(value, dict) for value in results.values()):
        ours = rows_of(results, "")
        columns = list(dict.fromkeys(metric for metrics in ours.values() for metric in metrics))
        theirs = {mark: row.figures for mark, row in zip(marks, published, strict=True)}
        intervals = results.intervals if isinstance(results, TableWithIntervals) else {}
        rows = [
            [name, *(_cell(metrics.get(column), intervals.get(name, {}).get(column)) for column in columns)]
            for name, metrics in {**ours, **theirs}.items()
        ]
        if intervals:
            notes.append("± 95 % interval over images")
        return Layout(["", *columns], rows, 0, len(theirs), notes)
    (metrics,) = rows_of(results, "").values()
    rows = [
        [name, format_value(value), *(format_value(row.figures.get(name)) for row in published)]
        for name, value in metrics.items()
    ]
    return Layout(["metric", "value", *marks], rows, len(marks), 0, notes)


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    text = format_value(value)
    return text if interval is None else f"{text}\n± {format_value((interval[1] - interval[0]) / 2)}"


def format_value(value: float | None) -> str:
    """Format a metric; an empty string for None."""
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.6g}"
