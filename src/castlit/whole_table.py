"""A table for the terminal whose cells are never cut."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table


def print_whole(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as it needs to be, whatever the terminal is: a figure that is cut off is none.

    Args:
        console: Whose width the table has at least.
        title: Above it.
        header: One for each column; they break at ``.``, ``/`` and ``_``, where keys and names of figures do.
        rows: The cells, which stay whole.
    """
    table = Table(title=escape(title))
    for i, name in enumerate(header):
        broken = name.replace(".", ".\n").replace("/", "/\n").replace("_", "_\n")
        table.add_column(escape(broken), justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    needed = Measurement.get(console, console.options.update(width=1000), table).maximum
    Console(highlight=False, width=max(console.width, needed)).print(table)
