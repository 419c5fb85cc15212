"""A protocol's figures as a table for the terminal, with published ones beside them."""

import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Group
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from castlit.evaluation.html import shown
from castlit.evaluation.protocol import Results, Table, rows_of
from castlit.evaluation.published import PublishedRow
from castlit.subject import Protocol


def published_rows(protocol: Protocol) -> list[PublishedRow]:
    """What the protocol's module lists as ``PUBLISHED``."""
    function = protocol.func if isinstance(protocol, partial) else protocol
    rows: list[PublishedRow] = getattr(sys.modules[function.__module__], "PUBLISHED", [])
    return rows


def figures_table(title: str, results: Results | Table, published: Sequence[PublishedRow] = ()) -> Group:
    """One line for each figure; or, of several things, a line for each with its figures beside it.

    Published figures stand beside ours, marked, with their source below.
    """
    table = RichTable(title=escape(title))
    notes = [Text(f"{'*' * (i + 1)} published, not run here: {row.source}", "dim") for i, row in enumerate(published)]
    marks = [f"{row.name} [published {'*' * (i + 1)}]" for i, row in enumerate(published)]
    if any(isinstance(value, dict) for value in results.values()):
        rows = rows_of(results, title)
        columns = list(dict.fromkeys(figure for figures in rows.values() for figure in figures))
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(escape(column), justify="right")
        for name, figures in rows.items():
            table.add_row(escape(name), *(shown(figures.get(column)) for column in columns))
        table.add_section()
        for mark, row in zip(marks, published, strict=True):
            table.add_row(escape(mark), *(shown(row.figures.get(column)) for column in columns), style="dim")
        return Group(table, *notes)
    table.add_column("figure")
    for heading in ("value", *marks):
        table.add_column(escape(heading), justify="right", style="dim" if heading in marks else "")
    for name, value in results.items():
        table.add_row(escape(name), shown(value), *(shown(row.figures.get(name)) for row in published))  # type: ignore[arg-type]
    return Group(table, *notes)
