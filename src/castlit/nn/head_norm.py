"""Batch norm for heads, through which one image can be explained without the others of its batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from castlit.utils.dtype import at_least_float32

_holders: list[None] = []  # Not thread-local: on a GPU, autograd runs backward passes in threads of its own.


@contextmanager
def held_statistics() -> Iterator[None]:
    """Within the context, backward passes take the statistics of each :class:`HeadNorm` as constants.

    In training, batch norm lets every image's embedding depend on all images of the batch. The gradient of a sum of
    scores is then no longer each image's own: what the images have in common is subtracted from it, whatever the size
    of the batch. With the statistics held it is each image's own, and the same as in evaluation mode. Only first
    derivatives are changed: what is computed from them still differentiates the statistics themselves.
    """
    _holders.append(None)
    try:
        yield
    finally:
        _holders.pop()


class HeadNorm(nn.BatchNorm1d):
    """Batch norm over vectors (N, C) whose statistics :func:`held_statistics` can hold; else just as its base."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C)."""
        if not (self.training and x.requires_grad and torch.is_grad_enabled() and len(x) > 1 and x.dim() == 2):
            return super().forward(x)
        wide = at_least_float32(x)  # heads of others run in half precision
        variance, mean = torch.var_mean(wide, 0, correction=0)
        track(self, mean, variance, len(x))
        scale = (holdable(variance) + self.eps).rsqrt()
        normalised: Tensor = (wide - holdable(mean)) * scale
        if self.weight is not None:
            normalised = normalised * self.weight + self.bias
        return normalised.to(x.dtype)


def borrow_head_norms(network: nn.Module) -> Callable[[], None]:
    """Turn each plain ``BatchNorm1d`` inside a network into a :class:`HeadNorm`, weights, hooks and names as they are.

    Returns:
        What to call to have them back as they were.
    """
    plain = [part for part in network.modules() if type(part) is nn.BatchNorm1d]
    for part in plain:
        part.__class__ = HeadNorm  # the two differ in their forward pass only

    def give_back() -> None:
        for part in plain:
            part.__class__ = nn.BatchNorm1d

    return give_back


@torch.no_grad()
def track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
    """Average a batch's statistics into a batch norm's running ones, as torch's own batch norms do.

    Args:
        norm: In training mode; where it does not track, nothing happens.
        mean: (C,).
        variance: (C,), without Bessel's correction.
        count: Number of values in the batch, for each channel.
    """
    if not norm.track_running_stats:
        return
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), share)


def holdable(x: Tensor) -> Tensor:
    """Pass a statistic on, and its gradient too, unless :func:`held_statistics` holds it."""
    passed: Tensor = _Holdable.apply(x)
    return passed


class _Holdable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor | None:
        return None if _holders else gradients[0]
