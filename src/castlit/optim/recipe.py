"""The optimiser and its learning-rate schedule, from plain settings."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from castlit.optim.lars import LARS
from castlit.utils.serializable import Described
from castlit.utils.validation import InputError, require_bool, require_choice, require_number


class OptimizerRecipe(Described):
    """The settings of an optimiser and its learning-rate schedule.

    The rate rises linearly over the warm-up and then falls along a half cosine to zero (or stays constant). It changes
    with each optimiser step.

    Args:
        name: ``"sgd"``, ``"adamw"``, or ``"lars"`` for batches of thousands, see :class:`castlit.optim.LARS`.
        lr: Peak learning rate, > 0.
        momentum: Momentum of SGD and LARS, in [0, 1).
        weight_decay: ≥ 0.
        warmup_epochs: Length of the warm-up in epochs, ≥ 0.
        schedule: ``"cosine"`` or ``"constant"``.
        exclude_norm_and_bias_from_decay: Do not decay parameters of one dimension: biases, and the scales and shifts
            of norms. ``None`` is the usual choice: LARS excludes them, SGD (MoCo) and AdamW decay everything.
        trust_coefficient: LARS's η > 0.

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
        exclude_norm_and_bias_from_decay: bool | None = None,
        trust_coefficient: float = 0.001,
    ) -> None:
        self.name = require_choice("optimizer.name", name, ("sgd", "adamw", "lars"))
        self.lr = require_number("optimizer.lr", lr, above=0)
        self.momentum = require_number("optimizer.momentum", momentum, low=0)
        if self.momentum >= 1:
            raise InputError(f"optimizer.momentum must be below 1, got {momentum!r}")
        self.weight_decay = require_number("optimizer.weight_decay", weight_decay, low=0)
        self.warmup_epochs = require_number("optimizer.warmup_epochs", warmup_epochs, low=0)
        self.schedule = require_choice("optimizer.schedule", schedule, ("cosine", "constant"))
        exclude = self.name == "lars" if exclude_norm_and_bias_from_decay is None else exclude_norm_and_bias_from_decay
        self.exclude_norm_and_bias_from_decay = require_bool("optimizer.exclude_norm_and_bias_from_decay", exclude)
        self.trust_coefficient = require_number("optimizer.trust_coefficient", trust_coefficient, above=0)

    def build(
        self, parameters: Iterable[nn.Parameter], total_steps: int, steps_per_epoch: float
    ) -> tuple[Optimizer, LambdaLR]:
        """Return the optimiser and its scheduler, which is stepped once after each optimiser step.

        Args:
            parameters: The parameters to train.
            total_steps: Optimiser steps in the run.
            steps_per_epoch: Optimiser steps in one epoch.
        """
        optimizer = self._optimizer(list(parameters))
        warmup = self.warmup_epochs * steps_per_epoch

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            if self.schedule == "constant":
                return 1.0
            progress = (step - warmup) / max(total_steps - warmup, 1)
            return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

        return optimizer, LambdaLR(optimizer, factor)

    def _optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Build the optimiser; torch chooses the multi-tensor implementation on a GPU by itself."""
        exclude = self.exclude_norm_and_bias_from_decay
        if self.name == "lars":
            return LARS(parameters, self.lr, self.momentum, self.weight_decay, self.trust_coefficient, exclude)
        groups = _groups(parameters) if exclude else [{"params": parameters}]
        if self.name == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)


def use_fused(optimizer: Optimizer) -> None:
    """Let torch's optimisers take their steps in one pass over all weights, where there is such an implementation.

    This changes the setting of the groups. With the constructor's argument, gradient scalers would leave it to the
    optimiser to undo the scale and to skip steps, which then count as taken, and Lightning would not clip gradients.

    Args:
        optimizer: Before its first step, with all weights on a GPU. One whose ``fused`` was chosen stays as it is.
    """
    for group in optimizer.param_groups:
        if "fused" in group and group["fused"] is None and group.get("foreach") is None:
            group["fused"] = True


def _groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Put parameters of one dimension in a second group without weight decay."""
    decayed = {"params": [parameter for parameter in parameters if parameter.dim() > 1]}
    others = {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0}
    return [group for group in (decayed, others) if group["params"]]
