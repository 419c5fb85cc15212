"""Projection and prediction heads on the pooled features."""

import itertools

from torch import nn

from castlit.nn.head_norm import HeadNorm


def linear_head(in_features: int, dim: int) -> nn.Module:
    """Build the head of MoCo v1: one linear layer from (N, in_features) to (N, dim)."""
    return nn.Linear(in_features, dim)


def mlp_head(
    in_features: int,
    hidden: int,
    dim: int,
    *,
    layers: int = 2,
    norm: bool = False,
    last_norm: bool = False,
    last_bias: bool = True,
) -> nn.Module:
    """Build a multi-layer perceptron from (N, in_features) to (N, dim).

    Args:
        in_features: Width of the input.
        hidden: Width of the hidden layers.
        dim: Width of the output.
        layers: Number of linear layers; MoCo v2 has 2, SimSiam's projector and VICReg's expander 3.
        norm: Batch norm behind each hidden layer (all but MoCo v2 and DenseCL).
        last_norm: Batch norm without scale and shift behind the last layer (SimSiam's projector, MoCo v3's heads).
        last_bias: Bias of the last layer, if no batch norm follows it; VICReg's expander has none.
    """
    widths = [in_features, *[hidden] * (layers - 1)]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        # A batch norm that follows cancels the bias.
        parts.append(nn.Linear(before, after, bias=not norm))
        if norm:
            parts.append(HeadNorm(after))
        parts.append(nn.ReLU())
    parts.append(nn.Linear(widths[-1], dim, bias=last_bias and not last_norm))
    if last_norm:
        parts.append(HeadNorm(dim, affine=False))
    return nn.Sequential(*parts)


def dense_head(in_channels: int, hidden: int, dim: int) -> nn.Module:
    """Build DenseCL's dense projection: MoCo v2's head at each position, (N, in_channels, h, w) to (N, dim, h, w)."""
    return nn.Sequential(nn.Conv2d(in_channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1))
