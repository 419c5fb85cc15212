"""The queue of past keys: MoCo's large and consistent dictionary (He et al., CVPR 2020, algorithm 1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.utils.validation import require_int


class KeyQueue(nn.Module):
    """First in, first out ring of L2-normalised keys, kept in the checkpoint together with its pointer.

    It works with any size and any batch: a batch wraps around the end, and of a batch larger than the queue the
    last ``size`` keys stay.

    Args:
        size: Number of keys K.
        dim: Width of a key.
    """

    equal_on_all_ranks = True
    """Every rank enqueues the same keys: DDP need not send the buffers around."""

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        require_int("queue_size", size, low=1)
        require_int("dim", dim, low=1)
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        # On the device, not a Python number: reading it back would make the host wait for the step.
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def snapshot(self) -> Tensor:
        """Return a copy (K, dim) of the keys, safe to differentiate against while the queue moves on."""
        return self.keys.clone()

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys by these (N, dim), but not by one that is not finite: its place keeps the old key.

        Args:
            keys: Normalised keys; under DDP those of all ranks, so that every rank holds the same queue.
        """
        size, count = self.keys.shape[0], keys.shape[0]
        positions = (self.pointer + torch.arange(count, device=self.keys.device)) % size
        # Only the last `size` keys would survive the wrap; writing no position twice keeps the order defined.
        positions, keys = positions[-size:], keys[-size:].to(self.keys.dtype)
        # Chosen on the device. In half precision a step may overflow; its keys would stay among the negatives for long.
        self.keys[positions] = torch.where(keys.isfinite().all(1, keepdim=True), keys, self.keys[positions])
        self.pointer.copy_((self.pointer + count) % size)
