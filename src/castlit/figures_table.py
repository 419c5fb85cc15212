"""A protocol's figures as a table for the terminal."""

import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Group
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from castlit.evaluation.layout import lay_out
from castlit.evaluation.protocol import Results, Table
from castlit.evaluation.published import PublishedRow
from castlit.subject import Protocol


def published_rows(protocol: Protocol) -> list[PublishedRow]:
    """What the protocol's module lists as ``PUBLISHED``."""
    function = protocol.func if isinstance(protocol, partial) else protocol
    rows: list[PublishedRow] = getattr(sys.modules[function.__module__], "PUBLISHED", [])
    return rows


def figures_table(title: str, results: Results | Table, published: Sequence[PublishedRow] = ()) -> Group:
    """The figures under a title; published ones are faint and marked, with their source below."""
    layout = lay_out(results, published)
    table = RichTable(title=escape(title))
    ours = len(layout.header) - layout.published_columns
    for i, column in enumerate(layout.header):
        table.add_column(
            escape(column), justify="right" if i else "left", no_wrap=not i, style="dim" if i >= ours else ""
        )
    ours = len(layout.rows) - layout.published_rows
    for i, row in enumerate(layout.rows):
        if i == ours:
            table.add_section()
        table.add_row(*map(escape, row), style="dim" if i >= ours else "")
    return Group(table, *(Text(note, "dim") for note in layout.notes))
