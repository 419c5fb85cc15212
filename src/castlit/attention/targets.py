"""What ``attention.target`` does: the score of a query that the CAM explains."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from castlit.utils.distributed import gather, rank
from castlit.utils.dtype import at_least_float32
from castlit.utils.validation import require_choice


class Embeddings(NamedTuple):
    """A target's input; all embeddings L2-normalised and in float32 or wider."""

    query: Tensor
    """(N, dim), with graph."""
    masked_key: Tensor
    """(N, dim), no graph: of the salient part of each image's other view."""
    negatives: Tensor | None
    """(K, dim), no graph: other images' keys, shared by all queries; None where the method stores none."""
    temperature: float
    """The method's, > 0."""


Target: TypeAlias = Callable[[Embeddings], Tensor]
"""From embeddings to one score for each image, (N,), with graph."""


def positive(embeddings: Embeddings) -> Tensor:
    """z_q · z_km, the similarity to the masked key alone (CAST, CVPR 2021): scores (N,)."""
    return (embeddings.query * embeddings.masked_key).sum(1)


def contrastive(embeddings: Embeddings) -> Tensor:
    """The similarity relative to the negatives': z_q · z_km / T - log Σ_j exp(z_q · z_j / T), scores (N,).

    It explains what distinguishes the image from others, not what all have in common (ContraCAM: Mo et al., NeurIPS
    2021, equation 4). Where the method stores no negatives, the masked keys of the other images of the batch, on all
    ranks, are the negatives.
    """
    z_q, z_km, negatives, temperature = embeddings
    others = gather(z_km) if negatives is None else negatives
    against = z_q @ others.to(z_q.dtype).T / temperature
    if negatives is None:
        own = torch.zeros_like(against, dtype=torch.bool)
        own[:, rank() * len(z_q) :].fill_diagonal_(True)
        # One image alone has no negatives: it is contrasted with itself.
        against = against.masked_fill(own, -torch.inf if len(others) > 1 else 0.0)
    return positive(embeddings) / temperature - against.logsumexp(1)


TARGETS: dict[str, Target] = {"positive": positive, "contrastive": contrastive}
"""The choices of ``attention.target``, next to a function."""


def target_named(target: str | Target) -> Target:
    """Return the target of a name, or the function itself.

    Raises:
        InputError: There is no such target.
    """
    return target if callable(target) else TARGETS[require_choice("attention.target", target, tuple(TARGETS))]


def uses_negatives(target: Target) -> bool:
    """Whether a target may read the negatives: the positive one does not; functions may."""
    return target is not positive


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
