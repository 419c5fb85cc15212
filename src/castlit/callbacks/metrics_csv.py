"""``metrics.csv`` that a resumed run goes on writing."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter


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


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), list(reader)


def _write(path: Path, header: list[str], rows: Iterable[dict[str, str]]) -> None:
    """Replace the file in one go: a run that is killed meanwhile loses nothing."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=header)
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
