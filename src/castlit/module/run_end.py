"""What of a training depends on the run's length."""

from torch import nn

from castlit.optim import OptimizerRecipe
from castlit.utils.validation import InputError


def require_no_end(optimizer: OptimizerRecipe, method: nn.Module, endless_data: bool) -> None:
    """Check that nothing depends on the length of a run that has no end.

    Args:
        optimizer: Its schedule may.
        method: Its momentum's schedule may.
        endless_data: Whether the data have no length, either.

    Raises:
        InputError: Something does.
    """
    asks = {
        "optimizer.schedule=cosine": optimizer.schedule != "constant",
        "method.momentum_schedule=cosine": getattr(method, "momentum_schedule", "constant") != "constant",
        "optimizer.warmup_epochs": endless_data and optimizer.warmup_epochs > 0,
    }
    key = next((key for key, needed in asks.items() if needed), None)
    if key is None:
        return
    if endless_data:
        raise InputError(f"{key} needs an end, and the data have no length: give the trainer max_steps")
    raise InputError(f"{key} needs an end: give the trainer max_epochs or max_steps")


def require_part_of_run(warmup_epochs: float) -> None:
    """Check the warm-up where the data have no length: there an epoch is the whole run.

    Raises:
        InputError: It does not end before the run.
    """
    if warmup_epochs >= 1:
        raise InputError(
            f"optimizer.warmup_epochs={warmup_epochs:g}: the data have no length, so an epoch is the whole run: give a "
            "fraction of it, such as 0.05"
        )
