"""Around a step: what a method's ``after_step`` gets, after each step of its optimiser; and batches of one image."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import is_

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from castlit.utils.lightning import pl
from castlit.utils.run_length import steps_taken, total_steps
from castlit.utils.validation import InputError


def trainer_of(module: pl.LightningModule) -> pl.Trainer | None:
    """The Trainer that trains the module or the module that contains it; None without one, and under Fabric."""
    try:
        trainer = module.trainer
    except RuntimeError:  # Lightning's, for a module without one
        return None
    return trainer if isinstance(trainer, pl.Trainer) else None


def require_own_trainer(module: pl.LightningModule) -> None:
    """Refuse a training step that no Trainer of this module's own takes.

    Raises:
        InputError: The module is a part of another one, or trained by Fabric.
    """
    trainer = trainer_of(module)
    if trainer is None:
        raise InputError(
            "there is no Trainer, which takes the metrics of training_step: call losses(batch), and after_step() after "
            "the optimiser's step (docs: Other loops)"
        )
    if trainer.lightning_module is not module:
        raise InputError(
            f"CASTModule is a part of {type(trainer.lightning_module).__name__}: call its losses(batch) in place of "
            "training_step (docs: Other loops)"
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

    It depends on Lightning's counts alone, so it is right in a resumed run, too. Within an optimiser step, Lightning
    has not counted that step yet.
    """
    total = total_steps(trainer)
    if not 0 < total < math.inf:
        return 0.0
    return min(steps_taken(trainer) / total, 1.0)


class StepFollower:
    """Calls a function after each step of the optimiser of a part, whoever calls it.

    A gradient scaler (``16-mixed``) skips steps whose gradients overflowed; a subclass may step on its own, by manual
    optimisation or its own ``optimizer_step``.

    Args:
        after_step: The function.
    """

    def __init__(self, after_step: Callable[[], None]) -> None:
        self._after_step = after_step
        self._followed: list[Optimizer] = []
        self._hooks: list[RemovableHandle] = []

    def start(self, optimizers: Iterable[Optimizer], *parts: Iterable[nn.Parameter]) -> None:
        """Follow the optimiser of the first of these parts that has one; no change while the optimisers are the same.

        Where several train a part, it is the last one: a batch of several optimisers' steps counts once.

        Args:
            optimizers: All optimisers.
            parts: The parameters of each part.
        """
        optimizers = list(optimizers)
        if len(optimizers) == len(self._followed) and all(map(is_, optimizers, self._followed)):
            return
        self.stop()
        self._followed = optimizers
        for part in map(set, parts):
            training = [each for each in optimizers if not part.isdisjoint(_trained(each))]
            if training:
                self._hooks.append(training[-1].register_step_post_hook(self._stepped))
                return

    def stop(self) -> None:
        """Follow none."""
        self._followed = []
        while self._hooks:
            self._hooks.pop().remove()

    def _stepped(self, *_: object) -> None:
        self._after_step()


def _trained(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    return (each for group in optimizer.param_groups for each in group["params"])
