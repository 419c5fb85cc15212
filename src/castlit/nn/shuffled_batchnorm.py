"""Keys encoded in batches that are shuffled over the ranks: ShuffleBN (He et al., CVPR 2020, section 3.3)."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from castlit.utils.distributed import gather, rank, world_size


def deal(everybodys: Tensor) -> Tensor:
    """Put what :func:`gather` returns, (ranks · N, ...), in the order in which samples are dealt out to the ranks.

    One after the other to each rank, as :class:`torch.utils.data.DistributedSampler` does: so the order is that of one
    process with the whole batch.
    """
    ranks = world_size()
    if ranks == 1:
        return everybodys
    return everybodys.reshape(ranks, -1, *everybodys.shape[1:]).transpose(0, 1).flatten(0, 1)


@torch.no_grad()
def encode_shuffled(encode: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Encode images in batches that are shuffled over the ranks: ShuffleBN (He et al., CVPR 2020, section 3.3).

    The batch norm statistics of a key's batch would otherwise tell its query apart from the negatives.

    Args:
        encode: Network from the inputs to embeddings (N, dim).
        *inputs: This rank's images (N, 3, H, W), and whatever goes with them, (N, ...); the same N on every rank.

    Returns:
        This rank's embeddings in the order of its images, and those of all ranks, one after the other. With one rank,
        where a shuffle changes nothing, both are simply ``encode(*inputs)``.
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
