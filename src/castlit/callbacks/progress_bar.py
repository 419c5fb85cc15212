"""A progress bar for which the host does not wait."""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.text import Text
from torch import Tensor

from castlit.utils import lightning_internals as lightning
from castlit.utils.lightning import pl
from castlit.utils.run_length import epoch_name
from castlit.utils.run_pace import RunPace
from castlit.utils.validation import require_int


class ProgressBar(pl.callbacks.RichProgressBar):
    """Lightning's rich progress bar, which costs a step nothing, with the time left of the whole run.

    Lightning's own bars read all their metrics from the device and format them at every batch, whatever their refresh
    rate. This one does so ``refresh_rate`` times a second at most; and where reading a number makes the host wait for
    the device, only at steps that are logged (``log_every_n_steps``) and so wait anyway. Where the output is neither a
    terminal nor a notebook it shows nothing: see :class:`castlit.callbacks.RunLog`.

    Args:
        refresh_rate: Updates per second, 1 to 10.
        leave: Keep the bar of each epoch.

    Raises:
        InputError: ``refresh_rate`` is out of range.
    """

    def __init__(self, refresh_rate: int = 4, leave: bool = False) -> None:
        super().__init__(require_int("callbacks.progress.refresh_rate", refresh_rate, 1, 10), leave)
        self._latest: dict[str, Tensor] = {}
        self._shown: dict[str, float] = {}
        self._next = 0.0
        self._pace = RunPace()
        self.run_left: float | None = None
        """Seconds until the last step of the run; None while they are not known."""

    def show(self, name: str, value: Tensor) -> None:
        """Take the newest value of a metric, a scalar on any device; it is read when the bar is updated."""
        self._latest[name] = value

    def get_metrics(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> Mapping[str, int | str | float | dict[str, float]]:
        """The metrics to show: those of the steps as last read, and what was logged for bars."""
        return {**self._shown, **super().get_metrics(trainer, pl_module)}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Show nothing on other processes than the first, and in a file."""
        super().setup(trainer, pl_module, stage)
        console = Console()
        if not (console.is_interactive or console.is_jupyter):
            self.disable()

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        """Add the time left of the run."""
        return [*super().configure_columns(trainer), _RunLeft(self)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the run."""
        super().on_train_start(trainer, pl_module)
        self._pace.start(trainer)
        self.run_left = None
        self._latest, self._shown = {}, {}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Update the bar if it is time to."""
        if self.is_disabled:
            return
        self._pace.note(trainer)
        if not self._is_time(batch_idx, self.total_train_batches):
            return
        if trainer.strategy.root_device.type == "cpu" or lightning.step_is_logged(trainer):
            self._read()
        self.run_left = self._pace.left(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the last step's metrics."""
        if not self.is_disabled:
            self._read()
        super().on_train_epoch_end(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Update the bar if it is time to."""
        if not self.is_disabled and self._is_time(batch_idx, self.total_val_batches_current_dataloader):
            super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def _is_time(self, batch: int, batches: float) -> bool:
        now = time.monotonic()
        if now < self._next and batch + 1 < batches:
            return False
        self._next = now + 1 / self.refresh_rate
        return True

    def _read(self) -> None:
        if self._latest:
            values = torch.stack([value.float() for value in self._latest.values()]).tolist()  # one wait for all
            self._shown = dict(zip(self._latest, values, strict=True))

    def _get_train_description(self, current_epoch: int) -> str:
        """``Epoch 1 of 14``: Lightning counts from 0, to 13."""
        return f"{epoch_name(self.trainer, current_epoch):{len(self.validation_description)}}"


class _RunLeft(ProgressColumn):
    """``run 1:02:03``: the time left of all epochs, validations so far included."""

    max_refresh = 0.5

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        super().__init__()

    def render(self, task: Task) -> Text:
        left = self._bar.run_left
        if left is None or task.id != self._bar.train_progress_bar_id:
            return Text()
        return Text(f"run {timedelta(seconds=round(left))}", style="dim")
