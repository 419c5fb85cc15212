"""What ``attention.subtract`` does: the mean key k̄ that the evidence score leaves out."""

import torch
from torch import Tensor, nn

from castlit.attention.loss import has_object
from castlit.utils.distributed import mean_over_ranks

CHOICES = ("negatives", "masked_keys")
"""The choices of ``attention.subtract``, next to None."""

MEMORY = 0.99
"""Weight of the past in the running mean: it spans some 100 batches."""


class RunningMean(nn.Module):
    """An exponential moving average of the masked keys, over batches and ranks; checkpoints contain it.

    It takes its size from the first keys.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(0))

    @torch.no_grad()
    def update(self, keys: Tensor, mask: Tensor) -> None:
        """Move towards the mean of those keys (N, dim) whose mask (N, 1, H, W) is not empty.

        All ranks must call it together.
        """
        counted = has_object(mask).to(keys.dtype)
        sums = mean_over_ranks(torch.cat([(keys * counted[:, None]).sum(0), counted.sum()[None]]))
        if self.mean.numel() == 0:
            self.mean = torch.zeros_like(sums[:-1])
            weight = torch.ones_like(sums[-1])
        else:
            weight = torch.full_like(sums[-1], 1 - MEMORY)
        # A batch without an object changes nothing.
        self.mean.lerp_(sums[:-1] / sums[-1].clamp(min=torch.finfo(sums.dtype).tiny), weight * (sums[-1] > 0))

    def forward(self) -> Tensor | None:
        """Return the mean (dim,), with no graph; None before the first update."""
        return self.mean.clone() if self.mean.numel() else None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: object) -> None:
        saved = state_dict.get(f"{prefix}mean")
        if saved is not None and saved.shape != self.mean.shape:
            self.mean = self.mean.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *more)
