"""Resuming bit for bit: what Lightning's checkpoints lack is put in, and put back."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from castlit.reporting.metrics_csv import MetricsCSV
from castlit.resume.loop_state import State, note, place, take_up
from castlit.resume.rng_state import RandomState, of_all_ranks, of_this_rank, random_state, set_random_state

KEY = "castlit"
"""Under which a checkpoint holds it."""


class ExactResume(pl.Callback):
    """Makes a resumed run equal the unbroken one: same batches, same random numbers, same rows in its log.

    It completes every checkpoint that is written during the fit, whoever writes it. From checkpoints that are written
    in ``on_train_batch_start``, in a validation or at an epoch's end (:class:`castlit.callbacks.LastCheckpoint` does),
    everything goes on exactly. From ``on_train_batch_end``, that step's row is missing in the log.
    """

    def __init__(self) -> None:
        self._loaders: list[State] = []
        self._validated = False
        self._before_validation: RandomState | None = None
        self._resume: State | None = None
        self._resume_loaders: list[State] = []
        self._draw_again: RandomState | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add position, random states and the length of the log."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        where = place(trainer, self._validated)
        if where is None:
            return
        now = random_state()
        if where == "validation" and self._before_validation is not None:
            now = self._before_validation
        checkpoint[KEY] = {
            **note(trainer, where, self._loaders, checkpoint["loops"]["fit_loop"]),
            "random": of_all_ranks(now),
            "rows": next((logger.rows for logger in trainer.loggers if isinstance(logger, MetricsCSV)), 0),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take it out."""
        if trainer.state.fn == TrainerFn.FITTING and KEY in checkpoint:
            self._resume = checkpoint[KEY]
            self._resume_loaders = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stand where the checkpoint was written."""
        self._validated, self._before_validation = False, None
        self._note_loaders(trainer)
        resume, self._resume = self._resume, None
        if resume is None:
            return
        take_up(trainer, resume, self._resume_loaders)
        self._loaders = self._resume_loaders or self._loaders
        self._draw_again = of_this_rank(resume["random"])
        if self._draw_again is not None and resume["place"] not in ("between", "validation"):
            self._restore_randomness()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the position before the first batch."""
        self._note_loaders(trainer)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Undo what fetching the first batch drew: it was fetched when the checkpoint was written, too."""
        self._restore_randomness()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Note the position behind the batch."""
        self._note_loaders(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A validation that is broken off is begun again with the same random numbers."""
        self._restore_randomness()
        self._validated, self._before_validation = False, random_state()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on it need not be."""
        self._validated = True

    def _note_loaders(self, trainer: pl.Trainer) -> None:
        loader = trainer.fit_loop._combined_loader
        self._loaders = [] if loader is None else loader._state_dicts()

    def _restore_randomness(self) -> None:
        if self._draw_again is not None:
            set_random_state(self._draw_again)
            self._draw_again = None
