"""What several ranks do together: gathering, and MoCo's shuffled batch norm."""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of ranks; 1 where nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank; 0 where nothing is distributed."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """Concatenate a tensor (N, ...) of equal shape over all ranks to (ranks · N, ...), with no gradient."""
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class _Sum(torch.autograd.Function):
    """The sum over all ranks; the gradient of everybody's results flows back the same way."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        # A copy: others may hold the very same tensor.
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradients[0])
        return total


class _GatherWithGradient(torch.autograd.Function):
    """all_gather whose backward pass sums the gradients that all ranks have for one rank's part."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return gather(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradients[0])  # with a gradient of its own: a CAM is differentiated twice
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
