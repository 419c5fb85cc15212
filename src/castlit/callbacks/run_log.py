"""Lines of progress, for output that is no terminal and for the run's log."""

import logging
import math
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from castlit.callbacks.progress_bar import ProgressBar
from castlit.utils import lightning_internals as lightning
from castlit.utils.lightning import TrainerFn, pl
from castlit.utils.log_lines import log_line
from castlit.utils.run_length import epoch_name, steps_taken, total_steps
from castlit.utils.run_pace import RunPace
from castlit.utils.step_outputs import step_outputs
from castlit.utils.validation import require_number

logger = logging.getLogger(__name__)

FIRST_STEPS, FIRST_S, LATEST_S = 5, 10.0, 60.0
"""The expected time is told after this many steps and seconds, or after ``LATEST_S`` and two steps."""

OVERDUE_S = 60.0
"""A line that is due waits for a step whose metrics can be read, but no longer."""

DAY_S = 24 * 3600.0
"""A run that will take longer gets a warning."""


class RunLog(pl.Callback):
    """Logs a line for each epoch and validation, at least one every ten minutes, and the time that the run will take.

    An epoch's line has the means of the training's metrics, the metrics of its validation, images per second, and the
    time left of the whole run. The lines go to the program's log (``train.log``) and to standard output; while a
    progress bar is on the terminal, to the log alone. In a script that has set up no logging they are printed.

    A step costs one addition of scalars on the device. Metrics are read at the end of an epoch, for which the host
    waits; within an epoch, on a GPU, only at steps that are logged (``log_every_n_steps``), where it waits anyway. A
    line between two of these has no metrics.

    The metrics are those that castlit's modules and :class:`castlit.callbacks.AttentionSupervision` show, and the loss
    of any other ``LightningModule``.

    Args:
        every_n_minutes: The longest time between two lines, over 0. A step or a batch that takes longer is waited for.
        advice: What to do where the run would take days on a CPU; the warning ends with it.

    Raises:
        InputError: ``every_n_minutes`` is out of range.
    """

    def __init__(self, every_n_minutes: float = 10.0, advice: str | None = None) -> None:
        self._every = 60 * require_number("callbacks.run_log.every_n_minutes", every_n_minutes, above=0)
        self._advice = advice
        self._latest: dict[str, Tensor] = {}
        self._pace = RunPace()
        self._validated: dict[str, float] = {}
        self._expects = False
        self._fit_started = self._validation_started = self._last_line = 0.0
        self._begin_epoch()

    def show(self, name: str, value: Tensor) -> None:
        """Take a step's value of a metric, a scalar on any device."""
        self._latest[name] = value

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self._pace.start(trainer)
        self._fit_started = self._last_line = time.monotonic()
        self._expects = math.isfinite(total_steps(trainer))
        self._begin_epoch()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the means anew."""
        self._begin_epoch()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Add up the metrics, and log a line if one is due."""
        self._pace.note(trainer)
        if not trainer.is_global_zero:
            self._latest = {}
            return
        self._add(step_outputs(outputs, trainer).get("loss"))
        self._images += count_images(batch) * trainer.world_size
        readable = trainer.strategy.root_device.type == "cpu" or lightning.step_is_logged(trainer)
        now = time.monotonic()
        silent = now - self._last_line
        if self._expects and readable and self._knows(trainer, now):
            self._expect(trainer, now)
        elif silent >= self._every and (readable or silent >= self._every + OVERDUE_S):
            self._log_epoch(trainer, readable)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch."""
        if trainer.is_global_zero:
            self._log_epoch(trainer, readable=True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the validation's clock."""
        self._validation_started = time.monotonic()
        if trainer.state.fn != TrainerFn.FITTING:
            self._last_line = self._validation_started

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log a line if one is due."""
        now = time.monotonic()
        if now - self._last_line < self._every or not trainer.is_global_zero:
            return
        batches, done = trainer.num_val_batches[dataloader_idx], batch_idx + 1
        line = f"Validation: batch {done:,}"
        if math.isfinite(batches):
            left = (batches - done) * (now - self._validation_started) / done
            line += f" of {batches:,}; {_clock(left)} left"
        self._log(trainer, line)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metrics of a validation outside of a fit; those of one within a fit are part of its epoch's line."""
        if trainer.sanity_checking:
            return
        # On all processes: reading a metric may make them exchange it.
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val")}
        seconds = time.monotonic() - self._validation_started
        if trainer.state.fn == TrainerFn.FITTING:
            self._validated = found
            self._paused += seconds
        elif trainer.is_global_zero:
            self._log(trainer, f"Validation: {_listed(found) or 'done'}; it took {_clock(seconds)}")

    def _begin_epoch(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._latest, self._validated = {}, {}
        self._images, self._paused, self._epoch_started = 0, 0.0, time.monotonic()

    def _add(self, loss: Tensor | None) -> None:
        """Add the step's metrics to the epoch's, without making the host wait."""
        latest, self._latest = self._latest, {}
        if loss is not None and not any(name.endswith("loss") for name in latest):
            latest["loss"] = loss
        if latest and latest.keys() == self._sums.keys():
            torch._foreach_add_(list(self._sums.values()), [latest[name] for name in self._sums])
        else:
            for name, value in latest.items():
                self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        for name in latest:
            self._counts[name] = self._counts.get(name, 0) + 1

    def _log_epoch(self, trainer: pl.Trainer, readable: bool) -> None:
        """Log the epoch so far; without its metrics where reading them would make the host wait."""
        line = epoch_name(trainer, trainer.current_epoch)
        total = total_steps(trainer)
        line += f", step {steps_taken(trainer):,}" + (f" of {total:,.0f}" if math.isfinite(total) else "")
        means = {}
        if readable and self._sums:
            sums = torch.stack([value.float() for value in self._sums.values()]).tolist()  # one wait for all
            means = {name: value / self._counts[name] for name, value in zip(self._sums, sums, strict=True)}
        seconds = time.monotonic() - self._epoch_started - self._paused
        left = self._pace.left(trainer)
        pace = [
            f"{self._images / seconds:,.1f} images/s" if self._images and seconds > 0 else "",
            f"{_clock(left)} left" if left is not None else "",
        ]
        parts = [_listed({**means, **self._validated}), ", ".join(filter(None, pace))]
        self._log(trainer, f"{line}: {'; '.join(filter(None, parts))}")

    def _knows(self, trainer: pl.Trainer, now: float) -> bool:
        """Whether the steps so far tell how long the run will take."""
        seconds, steps = now - self._fit_started, self._pace.steps(trainer)
        return seconds >= FIRST_S and (steps > FIRST_STEPS or (steps > 1 and seconds >= LATEST_S))

    def _expect(self, trainer: pl.Trainer, now: float) -> None:
        """Log how long the run will take, once."""
        self._expects = False
        left = self._pace.left(trainer)
        if not left:
            return
        steps = total_steps(trainer) - steps_taken(trainer) + self._pace.steps(trainer)
        self._log(trainer, f"Expected time: {_clock(now - self._fit_started + left)} for {steps:,.0f} steps")
        if left > DAY_S:
            on_cpu = trainer.strategy.root_device.type == "cpu"
            advice = f": {self._advice}" if on_cpu and self._advice else ""
            self._log(trainer, f"this run will take {_clock(left)} at this pace{advice}", logging.WARNING)

    def _log(self, trainer: pl.Trainer, line: str, level: int = logging.INFO) -> None:
        self._last_line = time.monotonic()
        bar = trainer.progress_bar_callback
        # castlit's bar is on only where it can be seen.
        shown = getattr(bar, "is_enabled", bar is not None) and (isinstance(bar, ProgressBar) or sys.stdout.isatty())
        log_line(logger, line, console=not shown, level=level)
        if shown and level >= logging.WARNING:
            live = getattr(bar, "progress", None)
            if live is None:
                print(f"warning: {line}")
            else:
                live.console.print(f"warning: {line}", markup=False, highlight=False)


def count_images(batch: Any) -> int:  # noqa: ANN401
    """The number of images in a batch: of the first tensor or list of images in it; 0 if there is none.

    Args:
        batch: What a loader yields: a tensor (N, ...), a list of images (C, H, W), or a list or mapping of these.
    """
    if isinstance(batch, Mapping):
        return next((count for part in batch.values() if (count := count_images(part))), 0)
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 0
    if isinstance(batch, (list, tuple)) and batch:
        first = batch[0]
        return len(batch) if isinstance(first, Tensor) and first.dim() == 3 else count_images(first)
    return 0


def _listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
