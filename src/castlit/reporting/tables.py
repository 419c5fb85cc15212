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
    """Format metrics as a table with a title; published ones are faint and marked, with their sources below."""
    layout = lay_out(results, published)
    table = RichTable(title=escape(title))
    ours = len(layout.header) - layout.published_columns
    for i, column in enumerate(layout.header):
        # On a narrow terminal the names of columns are broken, numbers are not: lines are rather longer.
        needed = max((len(line) for row in layout.rows for line in row[i].split("\n")), default=0) if i else None
        table.add_column(
            escape(column),
            justify="right" if i else "left",
            no_wrap=not i,
            min_width=needed,
            style="dim" if i >= ours else "",
        )
    ours = len(layout.rows) - layout.published_rows
    for i, row in enumerate(layout.rows):
        if i == ours:
            table.add_section()
        table.add_row(*map(escape, row), style="dim" if i >= ours else "")
    return Group(table, *(Text(note, "dim") for note in layout.notes))


def print_wide(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table at its full width, even if the terminal is narrower: a truncated number is worthless.

    Args:
        console: The table is at least as wide as this console.
        title: Line above the table.
        header: Column names; they wrap at ``.``, ``/`` and ``_``.
        rows: Cells; they do not wrap.
    """
    table = RichTable(title=escape(title))
    for i, name in enumerate(header):
        broken = name.replace(".", ".\n").replace("/", "/\n").replace("_", "_\n")
        table.add_column(escape(broken), justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    needed = Measurement.get(console, console.options.update(width=1000), table).maximum
    Console(highlight=False, width=max(console.width, needed)).print(table)
