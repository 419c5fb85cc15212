"""Tables as CSV, Markdown and HTML; for the terminal see :func:`castlit.reporting.tables.print_wide`."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from castlit.reporting.html import text_table
from castlit.utils.csv_cells import safe_cells


class TextTable(NamedTuple):
    """A table of formatted cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(safe_cells(header))
    writer.writerows(map(safe_cells, rows))
    return text.getvalue().encode()


def markdown(table: TextTable) -> str:
    """A table for a README."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def html_table(table: TextTable) -> str:
    """A table for a page of :mod:`castlit.experiments.page`."""
    return text_table(table.header, table.rows)
