"""``last.ckpt``: written regularly, and when a signal stops the run."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from castlit.resume.checkpoint_io import AtomicCheckpointIO, keep_as, remove_partial
from castlit.resume.request import PREVIOUS
from castlit.utils import lightning_internals as lightning
from castlit.utils.late_maximum import LateMaximum
from castlit.utils.lightning import TrainerFn, fabric, pl
from castlit.utils.signals import Stopped, StoppedWaiting, StopSignals
from castlit.utils.validation import require_int, require_number

_NOTHING, _SAVE, _STOP = 0, 1, 2


class LastCheckpoint(pl.callbacks.Checkpoint):
    """Keeps ``last.ckpt``: at the end of each epoch, every so often within it, and when a signal ends the run.

    It is written between two steps, where a run can resume exactly (with :class:`castlit.callbacks.ExactResume`), and
    atomically: this callback installs :class:`castlit.callbacks.AtomicCheckpointIO`.

    SIGTERM, Ctrl-C and the signal by which SLURM announces a job's time limit take effect after the current step, with
    several processes after the next one, as they tell each other while it runs. Then the checkpoint is written, SLURM
    is asked to requeue the job if Lightning would have asked, and :class:`castlit.utils.signals.Stopped` is raised. A
    handler that was installed before, such as submitit's, is called instead, and may end the process; otherwise the run
    continues.

    The checkpoint before stays as ``previous.ckpt``, for a disk that damages the last one.

    Args:
        dirpath: Folder of ``last.ckpt`` and ``previous.ckpt``.
        every_n_minutes: Minutes between two checkpoints within an epoch, > 0; None: no limit.
        every_n_train_steps: Steps between two checkpoints, ≥ 1; None: no limit.
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
        """The checkpoint's path; empty while there is none."""
        self.saved_step: int | None = None
        """The step at which it was written."""
        self._saved_time = 0.0
        self._first_step: int | None = None
        self._last_is_damaged = False
        self._signals = StopSignals()
        self._late = LateMaximum()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove partial files of killed runs, and note the handlers of the signals."""
        lightning.warn_if_untested()
        if stage == "fit":
            # Of an earlier fit, whose steps say nothing about this one's.
            self.last_model_path, self.saved_step = "", None
        if trainer.is_global_zero:
            remove_partial(self.path.parent)
        if type(trainer.strategy.checkpoint_io) is fabric.plugins.TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        self._signals.remember(_stop_signals(trainer))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note the step of the file that the run resumes from, so that it is not written again at once."""
        previous = self.path.with_name(PREVIOUS)
        # Otherwise the damaged file would take its place.
        self._last_is_damaged = (
            trainer.ckpt_path is not None and previous.is_file() and previous.samefile(trainer.ckpt_path)
        )
        if trainer.ckpt_path is not None and self.path.is_file() and self.path.samefile(trainer.ckpt_path):
            self.last_model_path, self.saved_step = str(self.path), checkpoint["global_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and handle signals."""
        self._saved_time, self._first_step = time.monotonic(), trainer.global_step
        self._late.open()
        self._listen(trainer)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save if it is time to, before this batch; stop after a signal."""
        if batch_idx % trainer.accumulate_grad_batches:
            return  # checkpoints hold no accumulated gradients
        action = self._due_by_step(trainer)  # the same on all processes
        if trainer.world_size == 1:
            self._do(trainer, max(action, self._due()))
        else:
            # What the others had to tell at the step before: to wait for them here would make each step longer.
            self._do(trainer, max(action, self._late.take()))
            self._late.send(self._due())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; stop after a signal."""
        self._act(trainer, max(_SAVE, self._due()))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle signals during the validations before and after the fit, too."""
        self._listen(trainer)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop after a signal; a resumed run repeats a validation within the fit."""
        self._act(trainer, _STOP if self._signals.received else _NOTHING)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, where the fit did not end with an epoch."""
        self._late.take()
        self._late.close()
        if self.saved_step != trainer.global_step and trainer.global_step:
            self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the signals' handlers; save where the run was stopped between two steps, waiting for a batch."""
        self._signals.received = None
        self._signals.give_back()
        self._late = LateMaximum()  # not closed: the others may be elsewhere
        if not isinstance(exception, StoppedWaiting):
            return
        # With several processes, the others may be elsewhere and would wait for this one.
        if trainer.world_size == 1 and self._between_steps(trainer):
            self._save(trainer)
        self._pass_on(trainer, exception.number)

    def _between_steps(self, trainer: pl.Trainer) -> bool:
        """Whether the fit waits for a batch within an epoch, with steps done that are not saved."""
        done: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        return (
            trainer.training
            and self._first_step is not None
            and trainer.global_step not in (self._first_step, self.saved_step)
            and done.ready == done.completed
            and done.ready % trainer.accumulate_grad_batches == 0
        )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the signals' handlers; a signal that came too late for this fit or validation ends the next one."""
        self._signals.give_back()

    def _listen(self, trainer: pl.Trainer) -> None:
        """Handle signals from now on; also one that Lightning has noted before, and would forget."""
        self._signals.take_over()
        if lightning.take_sigterm(trainer):
            self._signals.missed(signal.SIGTERM)

    def _due(self) -> int:
        """What this process is to do, by its signals and its clock."""
        if self._signals.received:
            return _STOP
        minutes = self.every_n_minutes
        by_time = minutes is not None and time.monotonic() - self._saved_time >= 60 * minutes
        return _SAVE if by_time else _NOTHING

    def _due_by_step(self, trainer: pl.Trainer) -> int:
        steps = self.every_n_train_steps
        return _SAVE if steps is not None and trainer.global_step > 0 and trainer.global_step % steps == 0 else _NOTHING

    def _act(self, trainer: pl.Trainer, action: int) -> None:
        """Save or stop if one of the processes is to, now; all of them call this at the same steps."""
        self._do(trainer, _most(trainer, max(action, self._late.take())))

    def _do(self, trainer: pl.Trainer, action: int) -> None:
        if action and trainer.state.fn == TrainerFn.FITTING and self.saved_step != trainer.global_step:
            self._save(trainer)
        if action == _STOP:
            self._stop(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if trainer.is_global_zero and self.path.is_file() and not self._last_is_damaged:
            keep_as(self.path, self.path.with_name(PREVIOUS))
        trainer.save_checkpoint(self.path, weights_only=False)
        self._last_is_damaged = False
        self.last_model_path, self.saved_step = str(self.path), trainer.global_step
        self._saved_time = time.monotonic()

    def _stop(self, trainer: pl.Trainer) -> None:
        number = int(_most(trainer, self._signals.received or 0))
        self._signals.received = None
        self._signals.give_back()
        if self._pass_on(trainer, number):
            # The handler did not end the process: continue.
            self._signals.take_over()
            return
        # Only the first process exits with an error: a launcher kills all others when one of its children fails.
        raise Stopped(number, None if trainer.is_global_zero else 0)

    def _pass_on(self, trainer: pl.Trainer, number: int) -> bool:
        """Call the handler that was installed before, if there is one, or ask SLURM to requeue the job."""
        owner = self._signals.owner(number)
        if owner is not None:
            owner(number, None)
        elif trainer.is_global_zero and number == _requeue_signal(trainer):
            _requeue()
        return owner is not None


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
    """The signal at which Lightning would ask SLURM to requeue this job."""
    environment = lightning.slurm(trainer)
    return environment.requeue_signal if environment is not None and environment.auto_requeue else None


def _requeue() -> None:
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if shutil.which("scontrol"):
        subprocess.run(["scontrol", "requeue", job], check=False)
