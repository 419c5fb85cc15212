"""Batch norm for heads, whose statistics can be constants for Grad-CAM: a CAM then depends on its own image only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from castlit.utils.dtype import at_least_float32

_open_contexts: list[None] = []  # Not thread-local: on a GPU, autograd runs backward passes in other threads.


@contextmanager
def held_statistics() -> Iterator[None]:
    """Within the context, backward passes treat the statistics of each :class:`HeadNorm` as constants.

    In training, batch norm makes every image's embedding depend on all images of the batch. The gradient of a sum of
    scores then mixes images: their common part is subtracted, whatever the batch size. With constant statistics each
    image has its own gradient, the same as in evaluation mode. Only first derivatives change: a loss computed from them
    still differentiates the statistics.
    """
    _open_contexts.append(None)
    try:
        yield
    finally:
        _open_contexts.pop()


class HeadNorm(nn.BatchNorm1d):
    """``BatchNorm1d`` over vectors (N, C) whose statistics are constants within :func:`held_statistics`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C)."""
        if not (self.training and x.requires_grad and torch.is_grad_enabled() and len(x) > 1 and x.dim() == 2):
            return super().forward(x)
        wide = at_least_float32(x)  # a user's head may run in half precision
        variance, mean = torch.var_mean(wide, 0, correction=0)
        track(self, mean, variance, len(x))
        scale = (as_statistic(variance) + self.eps).rsqrt()
        normalised: Tensor = (wide - as_statistic(mean)) * scale
        if self.weight is not None:
            normalised = normalised * self.weight + self.bias
        return normalised.to(x.dtype)


def borrow_head_norms(network: nn.Module) -> Callable[[], None]:
    """Turn each plain ``BatchNorm1d`` in a network into a :class:`HeadNorm`; weights, hooks and names stay.

    Returns:
        A function that undoes it.
    """
    plain = [part for part in network.modules() if type(part) is nn.BatchNorm1d]
    for part in plain:
        part.__class__ = HeadNorm  # the two differ in ``forward`` only

    def give_back() -> None:
        for part in plain:
            part.__class__ = nn.BatchNorm1d

    return give_back


@torch.no_grad()
def track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
    """Update a batch norm's running statistics with a batch's, as torch's own batch norms do.

    Args:
        norm: In training mode; without ``track_running_stats`` nothing happens.
        mean: (C,).
        variance: (C,), without Bessel's correction.
        count: Number of values per channel in the batch.
    """
    if not norm.track_running_stats:
        return
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), weight)


def as_statistic(x: Tensor) -> Tensor:
    """Return a statistic unchanged; within :func:`held_statistics` it gets no gradient."""
    statistic: Tensor = _Statistic.apply(x)
    return statistic


class _Statistic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor | None:
        return None if _open_contexts else gradients[0]
