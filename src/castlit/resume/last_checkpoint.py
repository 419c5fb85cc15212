"""``last.ckpt``: written often enough to matter, and when the run is told to stop."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from castlit.resume.checkpoint_io import AtomicCheckpointIO, remove_partial
from castlit.utils.signals import Stopped, StopSignals
from castlit.utils.validation import require_int, require_number

_NOTHING, _SAVE, _STOP = 0, 1, 2


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: at the end of each epoch, every so often within it, and when a signal ends the run.

    It is written between two steps, where a run can go on exactly (with :class:`castlit.callbacks.ExactResume`), and in
    one piece: see :class:`castlit.callbacks.AtomicCheckpointIO`, which this callback brings along.

    SIGTERM, Ctrl-C and the signal by which SLURM announces the end of a job's time are obeyed after the current step:
    the checkpoint is written, SLURM is asked to start the job again if Lightning would have asked, and
    :class:`castlit.utils.signals.Stopped` is raised. A handler that somebody else had installed (submitit) is called
    instead, and decides how to go on.

    Args:
        dirpath: Folder for it.
        every_n_minutes: How often within an epoch, > 0; None: only where something else says so.
        every_n_train_steps: How often in steps, besides; None: as above.
    """

    def __init__(
        self,
        dirpath: str | Path = "checkpoints",
        every_n_minutes: float | None = 15.0,
        every_n_train_steps: int | None = None,
    ) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_minutes, self.every_n_train_steps = every_n_minutes, every_n_train_steps
        if every_n_minutes is not None:
            require_number("callbacks.checkpoint.every_n_minutes", every_n_minutes, above=0)
        if every_n_train_steps is not None:
            require_int("callbacks.checkpoint.every_n_train_steps", every_n_train_steps, low=1)
        self.last_model_path = ""
        """Where the checkpoint is; empty while there is none."""
        self.saved_step: int | None = None
        """The step it is of."""
        self._saved_time = 0.0
        self._signals = StopSignals()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Clear up after killed runs, and see who listens to which signals."""
        if trainer.is_global_zero:
            remove_partial(self.path.parent)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        self._signals.remember(_stop_signals(trainer))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A run that goes on from here has this checkpoint already."""
        if trainer.ckpt_path is not None and self.path.is_file() and self.path.samefile(trainer.ckpt_path):
            self.last_model_path, self.saved_step = str(self.path), checkpoint["global_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and listen."""
        self._saved_time = time.monotonic()
        self._listen(trainer)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save if it is time to, before this batch."""
        if batch_idx % trainer.accumulate_grad_batches == 0:  # gradients of half a step are in no checkpoint
            self._act(trainer, self._due(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and stop if told to."""
        self._act(trainer, max(_SAVE, self._due(trainer)))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen during the validations before and after the fit, too."""
        self._listen(trainer)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if told to; a validation within the fit will be begun again."""
        self._act(trainer, _STOP if self._signals.received else _NOTHING)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what no epoch's end has."""
        if self.saved_step != trainer.global_step and trainer.global_step:
            self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let others have their signals back."""
        self._signals.received = None
        self._signals.give_back()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let others have their signals back; one that came too late for this fit or validation ends the next one."""
        self._signals.give_back()

    def _listen(self, trainer: pl.Trainer) -> None:
        """Take the signals over; what came while Lightning had them counts, too, and it alone would forget it."""
        self._signals.take_over()
        connector = trainer._signal_connector
        if connector.received_sigterm:
            connector.received_sigterm = False
            self._signals.missed(signal.SIGTERM)

    def _due(self, trainer: pl.Trainer) -> int:
        if self._signals.received:
            return _STOP
        minutes, steps = self.every_n_minutes, self.every_n_train_steps
        by_time = minutes is not None and time.monotonic() - self._saved_time >= 60 * minutes
        by_step = steps is not None and trainer.global_step > 0 and trainer.global_step % steps == 0
        return _SAVE if by_time or by_step else _NOTHING

    def _act(self, trainer: pl.Trainer, wish: int) -> None:
        """Do what the most determined of the processes wishes; all of them come here together."""
        wish = _most(trainer, wish)
        if wish and trainer.state.fn == TrainerFn.FITTING and self.saved_step != trainer.global_step:
            self._save(trainer)
        if wish == _STOP:
            self._stop(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(self.path, weights_only=False)
        self.last_model_path, self.saved_step = str(self.path), trainer.global_step
        self._saved_time = time.monotonic()

    def _stop(self, trainer: pl.Trainer) -> None:
        number = int(_most(trainer, self._signals.received or 0))
        owner = self._signals.owner(number)
        self._signals.received = None
        self._signals.give_back()
        if owner is not None:
            owner(number, None)
            # It did not end the process: it is not the end.
            self._signals.take_over()
            return
        if trainer.is_global_zero and number == _requeue_signal(trainer):
            _requeue()
        # One process tells how it ended; a launcher takes a child's failure for a reason to kill the others.
        raise Stopped(number, None if trainer.is_global_zero else 0)


def _most(trainer: pl.Trainer, value: int) -> int:
    if trainer.world_size == 1:
        return value
    return int(trainer.strategy.reduce(torch.tensor(value, device=trainer.strategy.root_device), reduce_op="max"))


def _stop_signals(trainer: pl.Trainer) -> list[int]:
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    for name in ("SIGUSR1", "SIGUSR2"):
        number = getattr(signal, name, None)  # Windows has none
        if number is not None and (callable(signal.getsignal(number)) or number == _requeue_signal(trainer)):
            numbers.append(number)
    return numbers


def _requeue_signal(trainer: pl.Trainer) -> int | None:
    """The signal at which Lightning would ask SLURM to start this job again."""
    environment = trainer._accelerator_connector.cluster_environment
    return (
        environment.requeue_signal if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
    )


def _requeue() -> None:
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if shutil.which("scontrol"):
        subprocess.run(["scontrol", "requeue", job], check=False)
