"""ShuffleBN: encode keys in batches that are shuffled over the ranks (He et al., CVPR 2020, section 3.3)."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from castlit.utils.distributed import exchange, gather, rank, world_size


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
def encode_shuffled(encode: Callable[..., Tensor], *inputs: Tensor, shared: int | None = None) -> tuple[Tensor, Tensor]:
    """Encode images in batches that are shuffled over the ranks.

    Without the shuffle, batch norm statistics would reveal which key belongs to a query. Each rank sends each rank an
    equal part of its images, drawn at random, and gets their embeddings back: it receives as many images as it has.
    Where the ranks do not divide N, all ranks get all images and choose.

    Args:
        encode: Network from the inputs to embeddings (N, dim).
        *inputs: This rank's images (N, 3, H, W), and optionally their masks, (N, ...); the same N on every rank.
        shared: The number of leading columns of the embeddings that all ranks get; None: all.

    Returns:
        This rank's embeddings (N, dim) in the order of its images; and the first ``shared`` columns of those of all
        ranks, rank by rank. With one rank, where a shuffle changes nothing, both are of ``encode(*inputs)``.
    """
    ranks = world_size()
    if ranks == 1:
        encoded = encode(*inputs)
        return encoded, _leading(encoded, shared)
    count, device = len(inputs[0]), inputs[0].device
    if count % ranks:
        order = torch.randperm(ranks * count, device=device)
        dist.broadcast(order, src=0)
        mine = order.chunk(ranks)[rank()]
        everything = gather(encode(*(gather(x)[mine] for x in inputs)))[order.argsort()]
        return everything.chunk(ranks)[rank()], _leading(everything, shared)
    # Drawn by each rank for its own images, on the device: nothing has to be agreed on, or read.
    order = torch.randperm(count, device=device)
    encoded = exchange(encode(*(exchange(x[order]) for x in inputs)))[order.argsort()]
    return encoded, gather(_leading(encoded, shared))


def _leading(embeddings: Tensor, columns: int | None) -> Tensor:
    return embeddings if columns is None else embeddings[:, :columns]
