"""ShuffleBN: encode keys in batches that are shuffled over the ranks (He et al., CVPR 2020, section 3.3)."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from castlit.utils.distributed import gather, rank, world_size


def interleave_ranks(gathered: Tensor) -> Tensor:
    """Reorder what :func:`castlit.utils.distributed.gather` returns, (ranks · N, ...): one row of each rank in turn.

    :class:`torch.utils.data.DistributedSampler` distributes samples this way, so the result has the order of one
    process with the full batch.
    """
    ranks = world_size()
    if ranks == 1:
        return gathered
    return gathered.reshape(ranks, -1, *gathered.shape[1:]).transpose(0, 1).flatten(0, 1)


@torch.no_grad()
def encode_shuffled(encode: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Encode images in batches that are shuffled over the ranks.

    Without the shuffle, batch norm statistics would reveal which key belongs to a query.

    Args:
        encode: Network from the inputs to embeddings (N, dim).
        *inputs: This rank's images (N, 3, H, W), and optionally their masks, (N, ...); the same N on every rank.

    Returns:
        This rank's embeddings in the order of its images, and those of all ranks, rank by rank. With one rank, where a
        shuffle changes nothing, both are ``encode(*inputs)``.
    """
    ranks = world_size()
    if ranks == 1:
        encoded = encode(*inputs)
        return encoded, encoded
    everything = [gather(x) for x in inputs]
    order = torch.randperm(everything[0].shape[0], device=inputs[0].device)
    dist.broadcast(order, src=0)
    mine = order.chunk(ranks)[rank()]
    encoded = gather(encode(*(x[mine] for x in everything)))[order.argsort()]
    return encoded.chunk(ranks)[rank()], encoded
