"""InfoNCE: classify the positive among negatives (van den Oord et al., 2018)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from castlit.utils.dtype import at_least_float32, without_autocast


def info_nce(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Compute the cross-entropy of the positive against shared negatives (He et al., CVPR 2020, equation 1).

    Args:
        query: L2-normalised queries (N, dim).
        positive: L2-normalised keys (N, dim), one for each query.
        negatives: L2-normalised keys (K, dim), shared by all queries.
        temperature: T > 0.

    Returns:
        Scalar mean over the queries, computed in float32 or wider.
    """
    with without_autocast(query.device):
        query, positive, negatives = (at_least_float32(x) for x in (query, positive, negatives))
        of_positive = (query * positive).sum(1, keepdim=True)
        logits = torch.cat([of_positive, query @ negatives.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def info_nce_in_batch(query: Tensor, keys: Tensor, temperature: float, first: int = 0) -> Tensor:
    """Compute InfoNCE with the batch's other keys as negatives (Chen et al., ICCV 2021, equation 1).

    Args:
        query: L2-normalised queries (N, dim).
        keys: L2-normalised keys (M, dim), M ≥ N; under DDP those of all ranks, rank by rank.
        temperature: T > 0.
        first: Index of the first query's positive among the keys; the others follow in order.

    Returns:
        Scalar mean over the queries, computed in float32 or wider.
    """
    with without_autocast(query.device):
        logits = at_least_float32(query) @ at_least_float32(keys).T / temperature
        return F.cross_entropy(logits, torch.arange(len(query), device=query.device) + first)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Compute SimCLR's loss: every other view in the batch is a negative (Chen et al., ICML 2020, equation 1).

    Args:
        first: L2-normalised embeddings (N, dim) of one view of each image.
        second: Those of the other view.
        temperature: T > 0.

    Returns:
        Scalar mean over the 2 N views, computed in float32 or wider.
    """
    with without_autocast(first.device):
        views = at_least_float32(torch.cat([first, second]))
        logits = views @ views.T / temperature
        logits = logits.masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf)
        partner = torch.arange(len(views), device=views.device).roll(len(first))
        return F.cross_entropy(logits, partner)
