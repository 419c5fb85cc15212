"""Batch norm over the images of all ranks, on any device."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from castlit.nn.head_norm import HeadNorm, as_statistic, track
from castlit.utils.distributed import gather_with_gradient, world_size
from castlit.utils.dtype import at_least_float32


class SyncBatchNorm(_BatchNorm):
    """Batch norm over the batches of all ranks, so that results do not depend on the number of ranks.

    ``torch.nn.SyncBatchNorm`` is faster on GPUs, but does not run on CPUs and cannot be differentiated twice, as a
    CAM through a head with batch norm needs. This one gathers each rank's mean and variance and joins them as Chan
    et al. (1979) do, without the cancellation of E[x²] - E[x]².
    """

    _replaced: tuple[_BatchNorm, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...) over all ranks' N and all positions; all ranks must call it together."""
        by_batch = self.training or self.running_mean is None
        of_head = any(isinstance(part, HeadNorm) for part in self._replaced)
        if not by_batch or (world_size() == 1 and not of_head):
            return super().forward(x)
        self._check_input_dim(x)
        if world_size() == 1 and self.training and x.numel() == x.shape[1]:
            # As torch's own: the variance would be 0, and the tracked one not finite.
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
        mean, variance, count = self._statistics(at_least_float32(x))
        if self.training:
            track(self, mean, variance, count)
        if of_head:
            mean, variance = as_statistic(mean), as_statistic(variance)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        across = (1, -1, *[1] * (x.dim() - 2))
        # Subtract the mean first: x · scale - mean · scale loses digits where the mean is large.
        normalised = (x - mean.view(across)) * scale.view(across)
        return (normalised if self.bias is None else normalised + self.bias.view(across)).to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    @staticmethod
    def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,), variance (C,) without Bessel's correction, and number of values per channel, over all ranks."""
        positions = [dim for dim in range(x.dim()) if dim != 1]
        own_count = x.new_full((1,), x.numel() / x.shape[1])
        own_variance, own_mean = torch.var_mean(x, positions, correction=0)
        gathered = gather_with_gradient(torch.cat([own_mean, own_variance, own_count])[None])
        channels = x.shape[1]
        means, variances, counts = gathered[:, :channels], gathered[:, channels:-1], gathered[:, -1:]
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count
        return mean, variance, count


def synchronise_batchnorm(network: nn.Module, trunks_on_gpu: bool = False) -> None:
    """Let each batch norm inside a network normalise over all ranks, with its weights and statistics.

    In one process they work as plain batch norms. Names in the state dict stay.

    Args:
        network: Changed in place; not itself a batch norm.
        trunks_on_gpu: Use torch's own layer for all but the heads, which are differentiated twice.
    """
    replacements: dict[_BatchNorm, _BatchNorm] = {}
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, _BatchNorm) and not isinstance(part, (SyncBatchNorm, nn.SyncBatchNorm)):
                kind = nn.SyncBatchNorm if trunks_on_gpu and not isinstance(part, HeadNorm) else SyncBatchNorm
                setattr(parent, name, replacements.setdefault(part, _replacement(part, kind)))


def separate_batchnorm(network: nn.Module) -> None:
    """Undo :func:`synchronise_batchnorm`; the batch norms keep the weights and statistics trained since.

    Args:
        network: Changed in place.
    """
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            for original in getattr(part, "_replaced", ()):
                _share(part, original)  # type: ignore[arg-type]
                setattr(parent, name, original)


def _replacement(part: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    made = kind(part.num_features, part.eps, part.momentum, part.affine, part.track_running_stats)
    _share(part, made)
    # timm's batch norms contain the layers that follow them, a dropout and an activation.
    for name, child in part.named_children():
        made.add_module(name, child)
    made.register_forward_hook(_then_children)
    # In a tuple, so that it is not registered as a submodule.
    made._replaced = (part,)  # type: ignore[assignment]
    return made


def _then_children(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    for child in norm.children():
        output = child(output)
    return output


def _share(source: _BatchNorm, target: _BatchNorm) -> None:
    """Let the target use the source's weight and statistics tensors."""
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(target, name, getattr(source, name))
    target.train(source.training)
