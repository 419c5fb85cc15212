"""Around a step: what a method's ``after_step`` gets, once per optimiser step taken; and batches of one image."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim import Optimizer

from castlit.utils.lightning import pl
from castlit.utils.run_length import total_steps
from castlit.utils.validation import InputError


def require_own_trainer(module: pl.LightningModule) -> None:
    """Refuse a training step that no Trainer of this module's own takes.

    Raises:
        InputError: The module is a part of another one, or trained by Fabric.
    """
    trainer = module.trainer
    if not isinstance(trainer, pl.Trainer):
        raise InputError(
            "Fabric takes no metrics from training_step: call losses(batch), and after_step() after the optimiser's "
            "step (docs: Other loops)"
        )
    if trainer.lightning_module is not module:
        raise InputError(
            f"CASTModule is a part of {type(trainer.lightning_module).__name__}: call its losses(batch) in place of "
            "training_step, and after_step() after the optimiser's step (docs: Other loops)"
        )


def takes_progress(method: nn.Module) -> bool:
    """Whether the method's ``after_step`` has an argument ``progress``.

    Raises:
        InputError: It has another required argument.
    """
    if not hasattr(method, "after_step"):
        return False
    parameters = inspect.signature(method.after_step).parameters  # type: ignore[arg-type]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in parameters.items():
        if name != "progress" and parameter.default is parameter.empty and parameter.kind not in variadic:
            raise InputError(
                f"{type(method).__name__}.after_step requires {name!r}: castlit passes only `progress` (in [0, 1])"
            )
    return "progress" in parameters


@contextmanager
def several_images(count: int) -> Iterator[None]:
    """Within the context, a training step runs: explain torch's error about a batch of a single image.

    Args:
        count: Images in the batch.

    Raises:
        InputError: A batch norm needs more than one.
    """
    try:
        yield
    except ValueError as error:
        if count > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "a training batch has one image, and this method's batch norm needs at least two: raise data.batch_size, "
            "or give more images"
        ) from error


def progress(trainer: pl.Trainer) -> float:
    """Fraction in [0, 1] of the run's optimiser steps that have been taken; 0 for a run without an end.

    It depends on the number of steps alone, so it is right in a resumed run, too. Within an optimiser step, Lightning
    has not counted that step yet.
    """
    total = total_steps(trainer)
    return min(trainer.global_step / total, 1.0) if 0 < total < math.inf else 0.0


@contextmanager
def step_taken(optimizer: Optimizer | pl.core.optimizer.LightningOptimizer) -> Iterator[list[bool]]:
    """Yield a list that stays empty until the optimiser has stepped.

    A gradient scaler (``16-mixed``) skips steps whose gradients overflowed.
    """
    taken: list[bool] = []
    # A hook on the optimiser needs no further wait for the device; reading the scaler's state would.
    own = optimizer.optimizer if isinstance(optimizer, pl.core.optimizer.LightningOptimizer) else optimizer
    hook = own.register_step_post_hook(lambda *_: taken.append(True))
    try:
        yield taken
    finally:
        hook.remove()
