"""The metric that a run returns to its sweeper."""

from collections.abc import Iterable

from castlit.callbacks.record import RunRecord
from castlit.cli.sweeps import SweepError, in_search
from castlit.utils.lightning import pl
from castlit.utils.validation import did_you_mean


class RequireObjective(pl.Callback):
    """Ends a search at the first validation that lacks the metric to search by: no run is trained for nothing.

    Args:
        name: Of the metric. One that is not of the validation is not looked for.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for the metric.

        Raises:
            SweepError: It is not there.
        """
        # Only the first process has metrics such as val/knn, and the others should end with it.
        names = trainer.strategy.broadcast(list(trainer.callback_metrics))
        if self.name.startswith("val/") and self.name not in names and not trainer.sanity_checking:
            raise _not_logged(self.name, [name for name in names if name.startswith("val/")], "in validation ")


def find_objective(name: str, trainer: pl.Trainer, record: RunRecord | None) -> float | None:
    """Return a metric at the end of a run; None if it was not logged.

    Args:
        name: Of the metric.
        trainer: After the fit.
        record: The run's.

    Raises:
        SweepError: It was not logged, and a sweeper searches by it.
    """
    if name in trainer.callback_metrics:
        return float(trainer.callback_metrics[name])
    # A run that was resumed at its end has not measured it again.
    metrics = {} if record is None else record.metrics
    if name in metrics:
        return metrics[name].end
    if in_search() and trainer.is_global_zero:
        raise _not_logged(name, {*trainer.callback_metrics, *metrics})
    return None


def _not_logged(name: str, logged: Iterable[str], when: str = "") -> SweepError:
    names = sorted(logged)
    return SweepError(
        f"objective={name}: {when}this run logs {', '.join(names) or 'nothing'}{did_you_mean(name, names)}; choose one"
    )
