"""The steps of a fit, also where the number of accumulated batches changes from epoch to epoch."""

import math

from castlit.utils import lightning_internals as lightning
from castlit.utils.lightning import pl


def total_steps(trainer: pl.Trainer) -> float:
    """Return the number of optimiser steps of the whole fit; infinite if nothing but time limits it.

    Under manual optimisation the number of batches, unless ``max_steps`` ends the fit: how many steps the optimisers
    will take is not known.

    Args:
        trainer: In a fit whose training data are set up.
    """
    if trainer.limit_train_batches == 0:
        return 0
    limit = trainer.max_steps if trainer.max_steps != -1 else math.inf
    if trainer.max_epochs in (None, -1) or not math.isfinite(trainer.num_training_batches):
        return limit
    return min(steps_of_epochs(trainer, trainer.max_epochs or 1), limit)


def steps_taken(trainer: pl.Trainer) -> int:
    """Return how many of the steps that :func:`total_steps` counts have been taken; one that is under way has not.

    Args:
        trainer: In a fit whose training data are set up.
    """
    if trainer.lightning_module.automatic_optimization or total_steps(trainer) == trainer.max_steps:
        return trainer.global_step
    return lightning.batches_taken(trainer)


def steps_of_epochs(trainer: pl.Trainer, epochs: float) -> float:
    """Return the number of optimiser steps in the first epochs; a part of an epoch is that part of its steps.

    Args:
        trainer: In a fit whose training data are set up.
        epochs: At least 0.
    """
    whole = math.floor(epochs)
    changing = min(whole, _last_change(trainer))
    steps: float = sum(_steps(trainer, epoch) for epoch in range(changing))
    if whole > changing:
        steps += (whole - changing) * _steps(trainer, changing)
    return steps + (epochs - whole) * _steps(trainer, whole) if epochs > whole else steps


def epochs_of_steps(trainer: pl.Trainer, steps: int) -> int:
    """Return the number of epochs that this many optimiser steps begin."""
    epoch = 0
    while steps > 0 and epoch < _last_change(trainer):
        steps -= max(int(_steps(trainer, epoch)), 1)
        epoch += 1
    return epoch + (math.ceil(steps / max(int(_steps(trainer, epoch)), 1)) if steps > 0 else 0)


def epoch_name(trainer: pl.Trainer, epoch: int) -> str:
    """Return ``Epoch 1 of 14`` for epoch 0, or ``Epoch 1`` where the number of epochs is not known.

    Args:
        trainer: In a fit whose training data are set up.
        epoch: The epoch's number, from 0, as Lightning counts.
    """
    total = total_steps(trainer)
    known = math.isfinite(total) and math.isfinite(trainer.num_training_batches)
    return f"Epoch {epoch + 1}" + (f" of {epochs_of_steps(trainer, int(total))}" if known else "")


def _steps(trainer: pl.Trainer, epoch: int) -> float:
    batches = trainer.num_training_batches
    return math.ceil(batches / _accumulated(trainer, epoch)) if math.isfinite(batches) else math.inf


def _last_change(trainer: pl.Trainer) -> int:
    """The first epoch from which on all have the same number of steps."""
    scheduler = _scheduler(trainer)
    return 0 if scheduler is None else max(scheduler.epochs)


def _accumulated(trainer: pl.Trainer, epoch: int) -> int:
    """The batches of a step. Lightning sets ``accumulate_grad_batches`` at the start of an epoch, for that epoch."""
    scheduler = _scheduler(trainer)
    return trainer.accumulate_grad_batches if scheduler is None else scheduler.get_accumulate_grad_batches(epoch)


def _scheduler(trainer: pl.Trainer) -> pl.callbacks.GradientAccumulationScheduler | None:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    kind = pl.callbacks.GradientAccumulationScheduler
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)
