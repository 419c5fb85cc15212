"""Validate, fit and validate again; report a stop signal and clean up after an error."""

from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from castlit.callbacks.record import RunRecord
from castlit.cli.launch import end_children
from castlit.data.datamodules.worker_loader import end_workers
from castlit.resume.restoring import restoring
from castlit.resume.start import report_stop
from castlit.utils.signals import Stopped


def fit(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    checkpoint: Path | None,
    begin: Callable[[], None],
) -> RunRecord | None:
    """Train a module.

    Args:
        trainer: Lightning's.
        module: What is trained.
        data: Its data.
        checkpoint: Where to resume; None: from scratch.
        begin: Called once, when module and data have been found good and the first step is about to begin.

    Returns:
        The run's record, if it is among the callbacks.
    """
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(_Begin(begin))
    record = next((callback for callback in callbacks if isinstance(callback, RunRecord)), None)
    try:
        if checkpoint is None:
            # The first row of the metrics, and the panel's "before training".
            trainer.validate(module, data, verbose=False)
        with restoring(checkpoint):
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        if record is not None and record.validated_at != trainer.global_step:
            # The last metrics are those of the final weights, whatever ended the fit (epochs, steps, time).
            trainer.validate(module, data, verbose=False)
    except Stopped as stop:
        report_stop(stop, trainer)
        raise
    except BaseException:
        end_children(trainer)
        raise
    finally:
        end_workers()
        _close(trainer)
    return record


class _Begin(pl.Callback):
    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin: Callable[[], None] | None = begin

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._call()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._call()

    def _call(self) -> None:
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()


def _close(trainer: pl.Trainer) -> None:
    if any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
        import wandb

        wandb.finish()  # Otherwise the next job of a sweep would log to the same W&B run.
