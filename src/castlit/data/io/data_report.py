"""``data_report.csv``: every file that is not as it should be, and what was done about it."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

COLUMNS = ("split", "image", "mask", "problem", "detail", "handling")


class DataReport:
    """Writes ``data_report.csv``; a file with a header alone says that nothing was wrong.

    Args:
        path: Where to write; what is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(COLUMNS) + "\n")

    def add(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Append rows of :data:`COLUMNS`. Whole lines at once, so that several processes may do it."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        with self.path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text.getvalue())
