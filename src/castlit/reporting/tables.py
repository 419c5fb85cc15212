"""Tables for the terminal."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from castlit.reporting.layout import lay_out
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table


def metrics_table(title: str, results: Results | Table, published: Sequence[PublishedRow] = ()) -> Group:
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


def print_wide(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as it needs to be, whatever the terminal is: a figure that is cut off is none.

    Args:
        console: Whose width the table has at least.
        title: Above it.
        header: One for each column; they break at ``.``, ``/`` and ``_``, where keys and names of figures do.
        rows: The cells, which stay whole.
    """
    table = RichTable(title=escape(title))
    for i, name in enumerate(header):
        broken = name.replace(".", ".\n").replace("/", "/\n").replace("_", "_\n")
        table.add_column(escape(broken), justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    needed = Measurement.get(console, console.options.update(width=1000), table).maximum
    Console(highlight=False, width=max(console.width, needed)).print(table)
