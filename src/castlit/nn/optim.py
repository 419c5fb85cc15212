"""The optimiser and its schedule, from plain settings."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from castlit.nn.checks import InputError, require_choice, require_number
from castlit.nn.spec import Described


class OptimizerRecipe(Described):
    """Which optimiser, how fast, and how its learning rate runs.

    The rate rises linearly over the warm-up and then falls along a half cosine to zero (or stays constant), step by
    step.

    Args:
        name: ``"sgd"`` or ``"adamw"``.
        lr: Peak learning rate, > 0.
        momentum: SGD's momentum, in [0, 1).
        weight_decay: ≥ 0.
        warmup_epochs: Length of the warm-up in epochs, ≥ 0.
        schedule: ``"cosine"`` or ``"constant"``.

    Raises:
        InputError: A setting is out of range.
    """

    def __init__(
        self,
        name: str = "sgd",
        lr: float = 0.03,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        warmup_epochs: float = 0.0,
        schedule: str = "cosine",
    ) -> None:
        self.name = require_choice("optimizer.name", name, ("sgd", "adamw"))
        self.lr = require_number("optimizer.lr", lr, above=0)
        self.momentum = require_number("optimizer.momentum", momentum, low=0)
        if self.momentum >= 1:
            raise InputError(f"optimizer.momentum must be below 1, got {momentum!r}")
        self.weight_decay = require_number("optimizer.weight_decay", weight_decay, low=0)
        self.warmup_epochs = require_number("optimizer.warmup_epochs", warmup_epochs, low=0)
        self.schedule = require_choice("optimizer.schedule", schedule, ("cosine", "constant"))

    def build(
        self, parameters: Iterable[nn.Parameter], total_steps: int, steps_per_epoch: float
    ) -> tuple[Optimizer, LambdaLR]:
        """Return the optimiser and its scheduler, which is stepped once after each optimiser step.

        Args:
            parameters: What is trained.
            total_steps: Optimiser steps in the whole run.
            steps_per_epoch: Optimiser steps in one epoch.
        """
        optimizer: Optimizer
        if self.name == "sgd":
            optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        else:
            optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        warmup = self.warmup_epochs * steps_per_epoch

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            if self.schedule == "constant":
                return 1.0
            progress = (step - warmup) / max(total_steps - warmup, 1)
            return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

        return optimizer, LambdaLR(optimizer, factor)
