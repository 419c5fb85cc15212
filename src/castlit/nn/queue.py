"""The queue of past keys: MoCo's large and consistent dictionary (He et al., CVPR 2020, algorithm 1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.utils.validation import require_int


class KeyQueue(nn.Module):
    """Ring buffer of L2-normalised keys, first in, first out; keys and pointer are in the checkpoint.

    It works with any queue and batch size: a batch wraps around the end, and of a batch larger than the queue the last
    ``size`` keys stay.

    Args:
        size: Number of keys K.
        dim: Width of a key.
    """

    equal_on_all_ranks = True
    """Every rank enqueues the same keys, so DDP need not broadcast the buffers."""

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        require_int("queue_size", size, low=1)
        require_int("dim", dim, low=1)
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        # A tensor on the device: reading a number back would make the host wait for the step.
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def snapshot(self) -> Tensor:
        """Return a copy (K, dim) of the keys, which a graph can keep while the queue changes."""
        return self.keys.clone()

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys by these (N, dim); where a new key is not finite, the old one stays.

        Args:
            keys: Normalised keys; under DDP those of all ranks, so that every rank has the same queue.
        """
        size, count = self.keys.shape[0], keys.shape[0]
        positions = (self.pointer + torch.arange(count, device=self.keys.device)) % size
        # Only the last `size` keys would remain; the order of writes to the same position is not defined.
        positions, keys = positions[-size:], keys[-size:].to(self.keys.dtype)
        # In half precision a step may overflow, and its keys would stay among the negatives for many steps.
        self.keys[positions] = torch.where(keys.isfinite().all(1, keepdim=True), keys, self.keys[positions])
        self.pointer.copy_((self.pointer + count) % size)
