"""All that castlit uses of Lightning's private names, in one place.

Lightning may change these with any minor version. :func:`warn_if_untested` reports a version newer than the tested one.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from castlit.utils.lightning import SLURMEnvironment, fabric, pl

TESTED = (2, 6)
"""The newest minor version of Lightning that the tests have run with."""

State = dict[str, Any]

_Loop = pl.loops.loop._Loop
_EvaluationStage = pl.loops.evaluation_loop.RestartStage
_EpochStage = pl.loops.training_epoch_loop.RestartStage
_FitStage = pl.loops.fit_loop.RestartStage


@cache
def warn_if_untested() -> None:
    """Warn, once in a process, that Lightning is newer than the tested version."""
    found = pl.__version__  # type: ignore[attr-defined]
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if numbers > TESTED:
        tested = ".".join(map(str, TESTED))
        pl.utilities.rank_zero_warn(
            f"castlit was tested with pytorch-lightning up to {tested}; found {found}: resuming, stopping at a signal "
            "and synchronised batch norms use its internals and may fail"
        )


# Signals, processes, files.


def take_sigterm(trainer: pl.Trainer) -> bool:
    """Whether Lightning has noted SIGTERM; it forgets it by this call."""
    connector = trainer._signal_connector
    received, connector.received_sigterm = connector.received_sigterm, False
    return received


def slurm(trainer: pl.Trainer) -> SLURMEnvironment | None:
    """The environment of SLURM, where Lightning found itself in it."""
    environment = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) else None


def is_local(path: str | Path) -> bool:
    """Whether a path is on this machine's disks."""
    local: bool = fabric.utilities.cloud_io._is_local_file_protocol(path)
    return local


def layer_sync(trainer: pl.Trainer) -> pl.plugins.layer_sync.LayerSync | None:
    """What synchronises batch norms; None where ``sync_batchnorm`` is off."""
    return getattr(trainer.strategy, "_layer_sync", None)


def set_layer_sync(trainer: pl.Trainer, sync: pl.plugins.layer_sync.LayerSync) -> None:
    """Replace what synchronises batch norms, before the strategy is set up."""
    trainer.strategy._layer_sync = sync  # type: ignore[attr-defined]


# The state of the loops of a fit. Functions that change it are for on_train_start: the loops are set up and have not
# started.


def logged_steps(trainer: pl.Trainer) -> int:
    """The step that the next row of the log gets."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def set_logged_steps(trainer: pl.Trainer, steps: int) -> None:
    """Set the step that the next row of the log gets."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = steps


def batches_taken(trainer: pl.Trainer) -> int:
    """The training batches of the fit whose step is done, also those before it was resumed."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    return int(progress.processed)


def step_is_logged(trainer: pl.Trainer) -> bool:
    """Whether the loggers get a row of the step that ends: for ``on_train_batch_end``."""
    return trainer._logger_connector.should_update_logs


def epoch_is_complete(trainer: pl.Trainer) -> bool:
    """Whether all batches of the epoch have been taken."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def accumulates(trainer: pl.Trainer) -> bool:
    """Whether the last batch only accumulated gradients, with no optimiser step."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the last batch."""
    fit = trainer.fit_loop
    return fit._data_fetcher is not None and fit.epoch_loop._should_check_val_fx(fit._data_fetcher)


def loader_states(trainer: pl.Trainer) -> list[State]:
    """The states of the training loaders; empty while there are none."""
    loader = trainer.fit_loop._combined_loader
    return [] if loader is None else loader._state_dicts()


def load_loader_states(trainer: pl.Trainer, states: list[State]) -> None:
    """Put the training loaders into these states, and fetch from there."""
    fit = trainer.fit_loop
    if states and fit._combined_loader is not None and fit._data_fetcher is not None:
        fit._combined_loader._load_state_dicts(states)
        iter(fit._data_fetcher)


def restart_in_epoch(trainer: pl.Trainer, after_validation: bool) -> None:
    """Let the fit continue within an epoch.

    Args:
        trainer: In a fit.
        after_validation: Whether the validation that follows the last batch is done.
    """
    _restart(trainer, _FitStage.RESTARTED_MID_EPOCH, restarting=True)
    epoch: Any = trainer.fit_loop.epoch_loop
    epoch._restart_stage = _EpochStage.RESTARTED_ON_LAST if after_validation else _EpochStage.NONE


def restart_after_epoch(trainer: pl.Trainer) -> None:
    """Let the fit start with the next epoch."""
    _restart(trainer, _FitStage.NONE, restarting=False)


def restart_validation(trainer: pl.Trainer) -> None:
    """Let the fit start with a validation."""
    loop: Any = trainer.fit_loop.epoch_loop.val_loop
    loop._restart_stage = _EvaluationStage.RESTARTED_MID_EVALUATION


def _restart(trainer: pl.Trainer, stage: str, restarting: bool) -> None:
    fit: Any = trainer.fit_loop
    fit._restart_stage = stage
    # The fit loop overrides this setter: with max_steps, it would do more than set it.
    _Loop.restarting.fset(fit, restarting)  # type: ignore[attr-defined]
