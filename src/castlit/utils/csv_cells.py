"""Cells of CSV files that a spreadsheet takes for text."""

from collections.abc import Iterable
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the start of a formula, which can run programs; the last four are wide letters."""


def safe_cells(row: Iterable[Any]) -> list[Any]:
    """Return a row's cells; texts that a spreadsheet would take for a formula begin with an apostrophe.

    Args:
        row: Cells; numbers stay, also where they are texts.
    """
    return [f"'{cell}" if _is_formula(cell) else cell for cell in row]


def _is_formula(cell: object) -> bool:
    text = str(cell)
    if not text.lstrip().startswith(_FORMULA) and not text.startswith(("\t", "\r")):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
