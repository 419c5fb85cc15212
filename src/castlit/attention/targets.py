"""What a CAM explains: scores of a query, made of its embedding and others."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from castlit.utils.distributed import gather, rank
from castlit.utils.dtype import at_least_float32


class Embeddings(NamedTuple):
    """What a target makes its score of; all L2-normalised and in float32 or wider."""

    query: Tensor
    """(N, dim), with graph."""
    masked_key: Tensor
    """(N, dim), no graph: what is salient of each image's other view."""
    negatives: Tensor | None
    """(K, dim), no graph: other images' keys, shared by all queries; None where the method keeps none."""
    temperature: float
    """The method's, > 0."""


Target: TypeAlias = Callable[[Embeddings], Tensor]
"""From embeddings to one score for each image, (N,), with graph."""


def positive(embeddings: Embeddings) -> Tensor:
    """z_q · z_km, the similarity to the masked key alone (CAST, CVPR 2021): scores (N,)."""
    return (embeddings.query * embeddings.masked_key).sum(1)


def contrastive(embeddings: Embeddings) -> Tensor:
    """The same, less what also the negatives have: z_q · z_km / T - log Σ_j exp(z_q · z_j / T), scores (N,).

    It explains what tells the image from others, not what all have in common (ContraCAM: Mo et al., NeurIPS 2021,
    equation 4). Where the method keeps no negatives, the masked keys of the batch's other images are, on all ranks.
    """
    z_q, z_km, negatives, temperature = embeddings
    others = gather(z_km) if negatives is None else negatives
    against = z_q @ others.to(z_q.dtype).T / temperature
    if negatives is None:
        own = torch.zeros_like(against, dtype=torch.bool)
        own[:, rank() * len(z_q) :].fill_diagonal_(True)
        # One image alone has nothing to be told from.
        against = against.masked_fill(own, -torch.inf if len(others) > 1 else 0.0)
    return positive(embeddings) / temperature - against.logsumexp(1)


TARGETS: dict[str, Target] = {"positive": positive, "contrastive": contrastive}


def scores(target: Target, embeddings: Embeddings) -> Tensor:
    """Compute a target's scores (N,), in float32 or wider also under autocast."""
    with torch.autocast(embeddings.query.device.type, enabled=False):
        negatives = embeddings.negatives
        return target(
            Embeddings(
                at_least_float32(embeddings.query),
                at_least_float32(embeddings.masked_key),
                None if negatives is None else at_least_float32(negatives),
                embeddings.temperature,
            )
        )
