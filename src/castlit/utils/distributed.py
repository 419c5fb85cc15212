"""Collective operations over ranks: gather, with and without a gradient, exchange, and mean."""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of ranks; 1 in a single process."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank; 0 in a single process."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """Concatenate a tensor (N, ...) of equal shape over all ranks to (ranks · N, ...), with no gradient."""
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def exchange(x: Tensor) -> Tensor:
    """Send each rank an equal part of a tensor (N, ...), with no gradient; N is a multiple of the number of ranks.

    Part r goes to rank r, and the result's part r is from rank r: a second exchange undoes the first.
    """
    if world_size() == 1:
        return x
    x = x.contiguous()
    received = torch.empty_like(x)
    dist.all_to_all_single(received, x)
    return received


class _Sum(torch.autograd.Function):
    """The sum over all ranks; the backward pass sums the gradients of all ranks."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        # A copy: all_reduce works in place.
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradients[0])
        return total


class _GatherWithGradient(torch.autograd.Function):
    """all_gather; the backward pass sums the gradients of all ranks for each rank's part."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return gather(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradients[0])  # differentiable again: a CAM is differentiated twice
        return total.chunk(world_size())[rank()]


def gather_with_gradient(x: Tensor) -> Tensor:
    """Like :func:`gather`, but the gradient flows back to each rank's own part; also a gradient's gradient."""
    if world_size() == 1:
        return x
    gathered: Tensor = _GatherWithGradient.apply(x)
    return gathered


@torch.no_grad()
def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of a tensor of equal shape over all ranks, with no gradient."""
    if world_size() == 1:
        return x.detach()
    mean = x.detach().clone()
    dist.all_reduce(mean)
    return mean / world_size()
