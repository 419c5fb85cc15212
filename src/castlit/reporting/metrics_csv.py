"""``metrics.csv`` that a resumed run goes on writing."""

import csv
import io
import locale
from collections.abc import Iterable
from pathlib import Path

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from castlit.utils.atomic_write import write_whole


class MetricsCSV(CSVLogger):
    """Lightning's ``CSVLogger``, which begins every file anew, but for a run that is continued.

    Example:
        >>> logger = MetricsCSV("outputs/my_run", name="", version="")
        >>> logger.keep(rows=120)  # those that the checkpoint knows of
    """

    _kept = 0

    def keep(self, rows: int) -> None:
        """Go on after the first ``rows`` rows of the file that is there; before anything is logged."""
        self._kept = rows

    @property
    def rows(self) -> int:
        """Rows in the file so far."""
        return self._experiment.rows if isinstance(self._experiment, _Writer) else 0

    @property
    @rank_zero_experiment
    def experiment(self) -> "_Writer":
        """What writes the file; made, and its folder with it, when first asked for."""
        if not isinstance(self._experiment, _Writer):
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Writer(self.log_dir, self._kept)
        return self._experiment


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str, keep: int) -> None:
        self.rows, self._keep = 0, keep
        super().__init__(log_dir)

    def save(self) -> None:
        count = len(self.metrics)
        super().save()
        self.rows += count

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not self._keep or not path.is_file():
            super()._check_log_dir_exists()
            return
        # What came after the checkpoint will be logged again; the last row may be cut short, too.
        header, rows = _read(path)
        self.metrics_keys, kept = header, rows[: self._keep]
        _write(path, header, kept)
        self.rows = len(kept)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        _write(path, fieldnames, _read(path)[1])


def by_epoch(path: Path, figure: str) -> dict[int, float]:
    """Read a validation figure's curve: epochs done → value; 0 is before training.

    Args:
        path: A ``metrics.csv``.
        figure: Such as ``val/knn``. Of a figure that is logged more often, each epoch's last value counts.

    Raises:
        ValueError: The file is none that castlit wrote.
    """
    found: dict[int, float] = {}
    trained = -1  # in which epoch, as Lightning numbers them
    for row in _read(path)[1]:
        if None in row.values() or not (row.get("epoch") and row.get("step")):
            continue  # a line that a killed run left half
        epoch = int(row["epoch"])
        if any(value for name, value in row.items() if name.startswith("train/")):
            trained = epoch
        if row.get(figure):
            # A validation within the fit bears the number of its epoch, from 0 on; one before or after it the number of
            # epochs done.
            found[epoch + 1 if epoch == trained else epoch] = float(row[figure])
    return found


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), list(reader)


def _write(path: Path, header: list[str], rows: Iterable[dict[str, str]]) -> None:
    """Replace the file in one go: a run that is killed meanwhile loses nothing."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=header)
    writer.writeheader()
    writer.writerows(rows)
    # In the encoding that Lightning appends in.
    write_whole(path, table.getvalue().encode(locale.getpreferredencoding(False)), lasting=True)
