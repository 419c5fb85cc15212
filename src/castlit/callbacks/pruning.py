"""End unpromising runs of a sweep early, by the median rule over the sweep's folder."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from castlit.reporting.pruned import why_pruned
from castlit.reporting.read_metrics import by_epoch
from castlit.utils.json_files import load_json
from castlit.utils.lightning import TrainerFn, pl
from castlit.utils.run_length import epochs_of_steps
from castlit.utils.validation import InputError, require_int

Curve = Mapping[int, float]
"""Epochs done → the metric."""


class Pruning(pl.Callback):
    """Ends a run of a sweep whose metric has never reached the median of the finished runs.

    The rule is that of Optuna's ``MedianPruner``, after "Google Vizier" (Golovin et al., KDD 2017): compare the run's
    best value so far with the median, over the finished runs, of the value after the same epoch.

    The other runs are read from the sweep's folder (``summary.json`` and ``metrics.csv``), not from Optuna's study:
    Hydra's sweeper does not expose its trials and would mark a pruned one as complete, and its database needs a server
    if jobs run on several machines. So pruning works with any sweeper and launcher whose jobs share a disk, and the
    sweeper gets a pruned run's last value as its result.

    A pruned run ends like any other, with its checkpoint and a ``summary.json`` that says so. It stays pruned when it
    is resumed.

    Args:
        folder: This run's folder.
        sweep: The sweep's folder, which contains the runs' folders. Outside of a sweep nothing is pruned.
        monitor: The metric, logged in validation; higher is better.
        startup_runs: Number of runs that must have finished, unpruned, before any is pruned.
        warmup_epochs: No run is pruned before this many epochs; None: a quarter of the run.

    Attributes:
        pruned: Why the run was ended; None if it was not.
    """

    def __init__(
        self,
        folder: str | Path,
        sweep: str | Path,
        monitor: str = "val/knn",
        startup_runs: int = 5,
        warmup_epochs: int | None = None,
    ) -> None:
        self.folder, self.sweep, self.monitor = Path(folder), Path(sweep), monitor
        self.startup_runs = require_int("callbacks.pruning.startup_runs", startup_runs, low=1)
        if warmup_epochs is not None:
            require_int("callbacks.pruning.warmup_epochs", warmup_epochs, low=0)
        self.warmup_epochs = warmup_epochs
        self.pruned: dict[str, Any] | None = None
        self._mine: dict[int, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """The state for a resumed run."""
        return {"pruned": self.pruned, "mine": list(self._mine.items())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.pruned, self._mine = state_dict["pruned"], dict(state_dict["mine"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not train a resumed run that was pruned."""
        if self.pruned is not None:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the run with the finished ones.

        Raises:
            InputError: Validation has not logged the metric.
        """
        if trainer.sanity_checking:
            return
        # The first process decides for all: only it has metrics such as val/knn, and others may see other files.
        names = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
        names = trainer.strategy.broadcast(names)
        if self.monitor not in names:
            logged = ", ".join(names) or "nothing"
            raise InputError(
                f"callbacks.pruning.monitor={self.monitor}: in validation this run logs {logged} "
                "(val/knn needs labels); in castlit.train, objective= names the metric"
            )
        if trainer.state.fn != TrainerFn.FITTING:
            return
        verdict = self._judge(trainer) if trainer.is_global_zero else None
        self.pruned = trainer.strategy.broadcast(verdict)
        if self.pruned is not None:
            trainer.should_stop = True
            if trainer.is_global_zero:
                print(f"Pruned after epoch {self.pruned['epoch']}: {why_pruned(self.pruned)}")

    def _judge(self, trainer: pl.Trainer) -> dict[str, Any] | None:
        """Why this run should end; None if it should not."""
        epoch = trainer.current_epoch + 1
        if self.sweep.absolute() not in self.folder.absolute().parents:
            return None
        self._mine[epoch] = float(trainer.callback_metrics[self.monitor])
        last = _epochs(trainer)
        warmup = self.warmup_epochs if self.warmup_epochs is not None else math.ceil((last or 0) / 4)
        if epoch < warmup or epoch == last:
            return None
        others = finished(self.sweep, self.monitor, but=self.folder)
        median = median_at(epoch, others)
        if len(others) < self.startup_runs or not below(self._mine, median):
            return None
        best = max((value for value in self._mine.values() if not math.isnan(value)), default=None)
        return {"epoch": epoch, "figure": self.monitor, "best": best, "median": median, "runs": len(others)}


def _epochs(trainer: pl.Trainer) -> int | None:
    """The number of epochs of the run; None if only time limits it, or nothing."""
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        return trainer.max_epochs
    if trainer.max_steps > 0 and math.isfinite(trainer.num_training_batches):
        return epochs_of_steps(trainer, trainer.max_steps)
    return None


def finished(sweep: Path, metric: str, but: Path) -> list[dict[int, float]]:
    """The curves of a sweep's other runs that finished without being pruned."""
    found = []
    for file in sorted(sweep.glob("*/summary.json")):
        if file.parent.absolute() == but.absolute():
            continue
        # What another run left damaged does not end this one.
        with suppress(OSError, ValueError, AttributeError):
            if load_json(file.read_bytes()).get("pruned") is None:
                found.append(by_epoch(file.parent / "metrics.csv", metric))
    return found


def median_at(epoch: int, curves: Sequence[Curve]) -> float | None:
    """The median of the curves' values after this epoch; None if no curve has one."""
    values = [curve[epoch] for curve in curves if not math.isnan(curve.get(epoch, math.nan))]
    return float(np.median(values)) if values else None


def below(mine: Curve, median: float | None) -> bool:
    """Whether all values of a run are below the median; a run without a finite value is below any median."""
    return median is not None and not any(value >= median for value in mine.values())
