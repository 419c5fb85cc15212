"""Exponential moving average of a network's weights: the momentum encoder."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

MOMENTUM_SCHEDULES = ("constant", "cosine")
"""The schedules of :func:`scheduled_momentum`."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def momentum_copy(network: ModuleT) -> ModuleT:
    """Return a copy of the network whose parameters have no gradient."""
    copied = copy.deepcopy(network)
    copied.requires_grad_(False)
    return copied


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Set the average to momentum · average + (1 - momentum) · network, in place, in one multi-tensor operation.

    Buffers (batch norm's running statistics) do not change: the momentum encoder has its own, as in MoCo.

    Args:
        average: The momentum encoder.
        network: The trained encoder, of the same shape.
        momentum: Weight of the old average, in [0, 1].
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - momentum)


def scheduled_momentum(momentum: float, schedule: str, progress: float) -> float:
    """Return the momentum at a point of a run.

    Args:
        momentum: m at the start of the run, in [0, 1].
        schedule: ``"constant"``, or ``"cosine"`` from m to 1 along a half cosine, so the average is constant at the end
            of the run: 1 - (1 - m) · (cos(π · progress) + 1) / 2 (BYOL, Grill et al., NeurIPS 2020, section 3.1).
        progress: Fraction of the run's optimiser steps that were taken before this one, in [0, 1].
    """
    if schedule == "constant":
        return momentum
    return 1.0 - (1.0 - momentum) * 0.5 * (math.cos(math.pi * progress) + 1.0)
