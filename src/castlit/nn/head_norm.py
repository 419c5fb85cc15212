"""Batch norm for heads, through which one image can be explained without the others of its batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
        if not (self.training and x.requires_grad and torch.is_grad_enabled() and len(x) > 1):
            return super().forward(x)
        variance, mean = torch.var_mean(x, 0, correction=0)
        if self.track_running_stats:
            self._track(mean, variance, len(x))
        scale = (_Holdable.apply(variance) + self.eps).rsqrt()
        normalised: Tensor = (x - _Holdable.apply(mean)) * scale
        if self.weight is not None:
            normalised = normalised * self.weight + self.bias
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)


class _Holdable(torch.autograd.Function):
    """Passes on what it is given, and its gradient too, unless that is held."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor | None:
        return None if _holders else gradients[0]
