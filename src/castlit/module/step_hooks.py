"""A method follows the optimiser: once per step that was taken, and told how far the run is."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import nn
from torch.optim import Optimizer

from castlit.utils.validation import InputError


def takes_progress(method: nn.Module) -> bool:
    """Whether the method's ``after_step`` wants to know how far the run is.

    Raises:
        InputError: It wants something else.
    """
    if not hasattr(method, "after_step"):
        return False
    parameters = inspect.signature(method.after_step).parameters  # type: ignore[arg-type]
    loose = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, given in parameters.items():
        if name != "progress" and given.default is given.empty and given.kind not in loose:
            raise InputError(
                f"{type(method).__name__}.after_step wants {name!r}: it is given `progress` (in [0, 1]), or nothing"
            )
    return "progress" in parameters


def progress(trainer: pl.Trainer) -> float:
    """Share in [0, 1] of the run's optimiser steps that are behind it.

    It comes from the number of steps alone, so a resumed run has it right. Within an optimiser step, Lightning has
    not counted this one yet. A run without an end makes no progress.
    """
    total = trainer.estimated_stepping_batches
    return min(trainer.global_step / total, 1.0) if 0 < total < math.inf else 0.0


@contextmanager
def step_taken(optimizer: Optimizer | LightningOptimizer) -> Iterator[list[bool]]:
    """Yield a list that is empty until the optimiser has really stepped.

    A gradient scaler (``16-mixed``) leaves out steps whose gradients overflowed.
    """
    taken: list[bool] = []
    # The optimiser is asked, not the scaler: the scaler has waited for the device already, to decide.
    own = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
    hook = own.register_step_post_hook(lambda *_: taken.append(True))
    try:
        yield taken
    finally:
        hook.remove()
