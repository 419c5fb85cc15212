"""Log a training metric that the progress bar shows, without reading its value at each step."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from castlit.utils.lightning import pl


@runtime_checkable
class ShowsTensors(Protocol):
    """A progress bar that takes metrics as tensors, and decides itself when to read them."""

    def show(self, name: str, value: Tensor) -> None:
        """Take the newest value of a metric, a scalar on any device."""


def log_and_show(module: pl.LightningModule, name: str, value: Tensor, batch_size: int | None = None) -> None:
    """Log a scalar from a training step, and show it in the progress bar.

    Lightning reads all values that are logged with ``prog_bar=True`` at every batch, for which a GPU's host waits: they
    are logged so only for bars that know no other way.

    Args:
        module: In a training step.
        name: The metric's name.
        value: A scalar.
        batch_size: As in ``LightningModule.log``.
    """
    bar: object = module.trainer.progress_bar_callback
    if isinstance(bar, ShowsTensors):
        bar.show(name, value.detach())
        bar = None
    module.log(name, value, prog_bar=bar is not None, batch_size=batch_size)
