"""Exponential moving average of a network's weights: the momentum encoder."""

import copy
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def momentum_copy(network: ModuleT) -> ModuleT:
    """Return a copy of the network whose parameters take no gradient."""
    copied = copy.deepcopy(network)
    copied.requires_grad_(False)
    return copied


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Set the average to momentum · average + (1 - momentum) · network, in place and for all parameters at once.

    Buffers (batch norm's running statistics) are left alone: the momentum encoder keeps its own, as in MoCo.

    Args:
        average: The momentum encoder.
        network: The trained encoder, of the same shape.
        momentum: Share of the old average that stays, in [0, 1].
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - momentum)
