"""``metrics.csv`` that a resumed run continues."""

import csv
import io
import locale
from collections.abc import Iterable
from pathlib import Path

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from castlit.reporting.read_metrics import read_metrics
from castlit.utils.atomic_write import write_atomic


class MetricsCSV(CSVLogger):
    """Lightning's ``CSVLogger``, but a resumed run continues the file instead of overwriting it.

    Example:
        >>> logger = MetricsCSV("outputs/my_run", name="", version="")
        >>> logger.keep(rows=120)  # the rows up to the checkpoint
    """

    _kept = 0

    def keep(self, rows: int) -> None:
        """Continue after the first ``rows`` rows of the existing file; call it before logging."""
        self._kept = rows

    @property
    def rows(self) -> int:
        """Rows in the file so far."""
        return self._experiment.rows if isinstance(self._experiment, _Writer) else 0

    def finalize(self, status: str) -> None:
        """Save what is left, without an error of its own where the run has failed: that one is to be reported."""
        try:
            super().finalize(status)
        except OSError:
            if status != "failed":
                raise

    @property
    @rank_zero_experiment
    def experiment(self) -> "_Writer":
        """The writer; it and its folder are made at first use."""
        if not isinstance(self._experiment, _Writer):
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Writer(self.log_dir, self._kept)
        return self._experiment


class _Writer(ExperimentWriter):
    """Replaces the file of an earlier run with its first own rows: until then, this run may still be refused."""

    def __init__(self, log_dir: str, keep: int) -> None:
        self.rows, self._keep = 0, keep
        self._kept: list[dict[str, str]] = []
        self._replaces = False
        super().__init__(log_dir)

    def save(self) -> None:
        count, path = len(self.metrics), Path(self.metrics_file_path)
        if count and self._replaces:
            if self._kept:
                _write(path, self.metrics_keys, self._kept)
            else:
                path.unlink(missing_ok=True)
            self._replaces = False
        super().save()
        self.rows += count

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        self._replaces = path.is_file()
        if self._replaces and self._keep:
            # Rows after the checkpoint will be logged again; the last row may be truncated.
            self.metrics_keys, rows = read_metrics(path)
            self._kept = rows[: self._keep]
            self.rows = len(self._kept)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        _write(path, fieldnames, read_metrics(path)[1])


def _write(path: Path, header: list[str], rows: Iterable[dict[str, str]]) -> None:
    """Replace the file atomically: a run killed meanwhile loses nothing."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=header, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    # The encoding that Lightning appends with.
    write_atomic(path, table.getvalue().encode(locale.getpreferredencoding(False)), lasting=True)
