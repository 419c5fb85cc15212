"""Log a training metric that callbacks show, without reading its value at each step."""

from functools import cache
from typing import Protocol, runtime_checkable

from torch import Tensor

from castlit.utils.lightning import pl


@runtime_checkable
class ShowsTensors(Protocol):
    """A callback that takes metrics as tensors, and decides itself when to read them."""

    def show(self, name: str, value: Tensor) -> None:
        """Take the newest value of a metric, a scalar on any device."""


def log_and_show(module: pl.LightningModule, name: str, value: Tensor, batch_size: int | None = None) -> None:
    """Log a scalar from a training step, and hand it to the progress bar and to the lines of the log.

    Lightning reads all values that are logged with ``prog_bar=True`` at every batch, for which a GPU's host waits: they
    are logged so only for bars that know no other way.

    Args:
        module: In a training step.
        name: The metric's name.
        value: A scalar.
        batch_size: As in ``LightningModule.log``.
    """
    callbacks: list[pl.Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if _shows_tensors(type(callback)):  # type: ignore[arg-type]
            callback.show(name, value.detach())  # type: ignore[attr-defined]
    bar = module.trainer.progress_bar_callback
    by_lightning = bar is not None and not _shows_tensors(type(bar))  # type: ignore[arg-type]
    module.log(name, value, prog_bar=by_lightning, batch_size=batch_size)


@cache
def _shows_tensors(kind: type) -> bool:
    """Kept for each class: the check takes longer than all else here."""
    return issubclass(kind, ShowsTensors)
