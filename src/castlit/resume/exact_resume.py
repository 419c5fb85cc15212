"""Resume bit for bit: add to checkpoints what Lightning leaves out, and restore it."""

import logging
from typing import Any

from castlit.reporting.metrics_csv import MetricsCSV
from castlit.resume.loop_state import State, find_position, restore_position, save_position
from castlit.resume.rng_state import (
    RandomState,
    gather_random_states,
    own_random_state,
    random_state,
    set_random_state,
)
from castlit.utils import lightning_internals as lightning
from castlit.utils.lightning import TrainerFn, pl

logger = logging.getLogger(__name__)

KEY = "castlit"
"""The key in a checkpoint for what :class:`ExactResume` adds."""


class ExactResume(pl.Callback):
    """Makes a resumed run equal to an uninterrupted one: same batches, same random numbers, same rows in its log.

    It adds to every checkpoint that is written during the fit, by any callback. From checkpoints that are written in
    ``on_train_batch_start``, in a validation or at an epoch's end, as :class:`castlit.callbacks.LastCheckpoint` does,
    the run resumes exactly. From ``on_train_batch_end``, that step's row is missing in the log.

    Within an epoch this takes a training loader that saves its position (``state_dict``), as those of castlit's data
    modules do. With another one the same images come again, and a warning says so.
    """

    def __init__(self) -> None:
        self._loaders: list[State] = []
        self._validated = False
        self._before_validation: RandomState | None = None
        self._resume: State | None = None
        self._resume_loaders: list[State] = []
        self._restore: RandomState | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the version of Lightning, and forget the loaders of an earlier fit."""
        lightning.warn_if_untested()
        if stage == "fit":
            self._loaders = []

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the position, the random states and the length of the log."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        position = find_position(trainer, self._validated)
        if position is None:
            return
        now = random_state()
        if position == "validation" and self._before_validation is not None:
            now = self._before_validation
        checkpoint[KEY] = {
            **save_position(trainer, position, self._loaders, checkpoint["loops"]["fit_loop"]),
            "random": gather_random_states(now),
            "rows": next((logger.rows for logger in trainer.loggers if isinstance(logger, MetricsCSV)), 0),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep what was added until the training starts."""
        if trainer.state.fn == TrainerFn.FITTING and KEY in checkpoint:
            self._resume = checkpoint[KEY]
            self._resume_loaders = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the position and the random states."""
        self._validated, self._before_validation = False, None
        self._note_loaders(trainer)
        resume, self._resume = self._resume, None
        if resume is None:
            return
        restore_position(trainer, resume, self._resume_loaders)
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if done and not self._resume_loaders and resume["place"] != "epoch":
            logger.warning(
                "the training loader has no state_dict, so it begins anew: the images of the first %d batches of this "
                "epoch come again, and as many of the others do not; castlit's data modules have loaders that continue",
                done,
            )
        self._loaders = self._resume_loaders or self._loaders
        self._restore = own_random_state(resume["random"])
        if self._restore is not None and resume["place"] not in ("between", "validation"):
            self._restore_random_state()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the loaders' states before the first batch."""
        self._note_loaders(trainer)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Undo the draws of fetching the first batch: the checkpoint was written after it had been fetched."""
        self._restore_random_state()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Note the loaders' states after the batch."""
        self._note_loaders(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the random states: a validation that is interrupted starts again with the same random numbers."""
        self._restore_random_state()
        self._validated, self._before_validation = False, random_state()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the validation is done, so that a resumed run does not repeat it."""
        self._validated = True

    def _note_loaders(self, trainer: pl.Trainer) -> None:
        self._loaders = lightning.loader_states(trainer)

    def _restore_random_state(self) -> None:
        if self._restore is not None:
            set_random_state(self._restore)
            self._restore = None
