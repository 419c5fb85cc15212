"""ContraCAM's score: how much an image differs from the others of its batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from castlit.utils.dtype import at_least_float32, without_autocast


def contrast(query: Tensor, key: Tensor, others: Sequence[Tensor], temperature: float) -> Tensor:
    """Score each image against the others: z_q · z_k / T - log Σ_j exp(z_q · z_j / T), scores (N,).

    It is the score of ContraCAM (Mo et al., NeurIPS 2021). Unlike :func:`castlit.attention.targets.contrastive` it uses
    this batch alone: no queue and no other rank.

    Args:
        query: (N, dim), L2-normalised, with graph.
        key: (N, dim), L2-normalised: each image's own key.
        others: One or more (N, dim), L2-normalised: row i is a negative for all images but image i.
        temperature: T > 0.
    """
    with without_autocast(query.device):
        z_q, z_k = at_least_float32(query), at_least_float32(key)
        against = torch.stack([z_q @ at_least_float32(each).T for each in others]) / temperature
        if len(z_q) > 1:  # one image alone is contrasted with itself
            own = torch.eye(len(z_q), dtype=torch.bool, device=z_q.device)
            against = against.masked_fill(own, -torch.inf)
        return (z_q * z_k).sum(1) / temperature - against.logsumexp((0, 2))
