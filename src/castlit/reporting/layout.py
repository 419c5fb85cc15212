"""A protocol's figures in rows and columns, with published ones beside them: the same on a terminal and on a page."""

from collections.abc import Sequence
from typing import NamedTuple

from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table, rows_of


class Layout(NamedTuple):
    """Texts, ready to be drawn."""

    header: list[str]
    rows: list[list[str]]
    """The first cell is the row's name."""
    published_columns: int
    """So many of the last columns are published figures."""
    published_rows: int
    """So many of the last rows are."""
    notes: list[str]
    """Where the published figures were read."""


def lay_out(results: Results | Table, published: Sequence[PublishedRow] = ()) -> Layout:
    """One line for each figure, and published ones in columns beside it; or, of several things, a line for each.

    Args:
        results: What a protocol gave.
        published: What its module lists.
    """
    marks = [f"{row.name} [published {'*' * (i + 1)}]" for i, row in enumerate(published)]
    notes = [f"{'*' * (i + 1)} published, not run here: {row.source}" for i, row in enumerate(published)]
    if any(isinstance(value, dict) for value in results.values()):
        ours = rows_of(results, "")
        columns = list(dict.fromkeys(figure for figures in ours.values() for figure in figures))
        theirs = {mark: row.figures for mark, row in zip(marks, published, strict=True)}
        rows = [
            [name, *(shown(figures.get(column)) for column in columns)] for name, figures in {**ours, **theirs}.items()
        ]
        return Layout(["", *columns], rows, 0, len(theirs), notes)
    (figures,) = rows_of(results, "").values()
    rows = [
        [name, shown(value), *(shown(row.figures.get(name)) for row in published)] for name, value in figures.items()
    ]
    return Layout(["figure", "value", *marks], rows, len(marks), 0, notes)


def shown(value: float | None) -> str:
    """A figure as text; nothing for none."""
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.6g}"
