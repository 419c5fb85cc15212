"""``data_report.csv``: every file with a problem, and how it was handled."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from castlit.utils.csv_cells import safe_cells

COLUMNS = ("split", "image", "mask", "problem", "detail", "handling")


DURING_TRAINING = "bad during training"
"""The problem of a file that was good when it was indexed."""


class DataReport:
    """Writes ``data_report.csv``. A file with only the header means that there were no problems.

    Args:
        path: Where to write; an existing file is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(COLUMNS) + "\n")

    def add(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Append rows of :data:`COLUMNS`, in a single write, so that several processes may append."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(safe_cells, rows))
        with self.path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text.getvalue())


def rows_during_training(path: Path) -> list[tuple[str, ...]]:
    """The rows of an existing report about files that became bad after they were indexed; none without a report."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [tuple(row) for row in csv.reader(file) if row[3:4] == [DURING_TRAINING]]
    except OSError:
        return []
