"""What ``attention.subtract`` does: the mean key k̄ that the evidence score leaves out."""

import torch
from torch import Tensor, nn

from castlit.attention.loss import has_object
from castlit.utils.distributed import mean_over_ranks

CHOICES = ("negatives", "masked_keys")
"""The choices of ``attention.subtract``, next to None."""

MEMORY = 0.99
"""Weight of the past in the running mean after the first 100 batches, which are averaged."""


class RunningMean(nn.Module):
    """An average of the masked keys over ranks and recent batches; checkpoints contain it.

    It takes its size from the first keys.
    """

    mean: Tensor
    batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("batches", torch.zeros(()))

    @torch.no_grad()
    def update(self, keys: Tensor, mask: Tensor) -> None:
        """Move towards the mean of those keys (N, dim) that are finite and whose mask (N, 1, H, W) is not empty.

        All ranks must call it together.
        """
        good = has_object(mask) & keys.isfinite().all(1)
        sums = mean_over_ranks(torch.cat([keys.masked_fill(~good[:, None], 0).sum(0), good.sum()[None].to(keys.dtype)]))
        if self.mean.numel() == 0:
            self.mean = torch.zeros_like(sums[:-1])
        # A batch without an object changes nothing. No value is read back: on a GPU that would wait for the device.
        some = (sums[-1] > 0).to(sums.dtype)
        self.batches += some.to(self.batches.dtype)
        weight = some / self.batches.to(sums.dtype).clamp(min=1, max=round(1 / (1 - MEMORY)))
        self.mean.lerp_(sums[:-1] / sums[-1].clamp(min=torch.finfo(sums.dtype).tiny), weight)

    def forward(self) -> Tensor | None:
        """Return the mean (dim,), with no graph; None before the first update."""
        return self.mean.clone() if self.mean.numel() else None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: object) -> None:
        saved = state_dict.get(f"{prefix}mean")
        if saved is not None and saved.shape != self.mean.shape:
            self.mean = self.mean.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *more)
