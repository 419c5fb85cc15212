"""What ``attention.target`` does: the score of a query that the CAM explains."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from castlit.utils.distributed import gather, rank
from castlit.utils.dtype import at_least_float32, without_autocast
from castlit.utils.validation import InputError, require_choice


class Embeddings(NamedTuple):
    """A target's input; all in float32 or wider, and all but ``unnormalised`` and ``mean_key`` L2-normalised."""

    query: Tensor
    """(N, dim), with graph."""
    masked_key: Tensor
    """(N, dim), no graph: of the salient part of each image's other view."""
    negatives: Tensor | None
    """(K, dim), no graph: other images' keys, shared by all queries; None where the method stores none."""
    temperature: float
    """The method's, > 0."""
    unnormalised: Tensor | None = None
    """(N, dim), with graph: the query before its normalisation; None where the method does not give it."""
    mean_key: Tensor | None = None
    """(dim,), no graph: the mean of other images' keys, if ``attention.subtract`` asks for one."""


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
    z_q, z_km, negatives, temperature = embeddings[:4]
    others = gather(z_km) if negatives is None else negatives
    against = z_q @ others.to(z_q.dtype).T / temperature
    if negatives is None:
        own = torch.zeros_like(against, dtype=torch.bool)
        own[:, rank() * len(z_q) :].fill_diagonal_(True)
        # One image alone has no negatives: it is contrasted with itself.
        against = against.masked_fill(own, -torch.inf if len(others) > 1 else 0.0)
    return positive(embeddings) / temperature - against.logsumexp(1)


def evidence(embeddings: Embeddings) -> Tensor:
    """What the match is made of: h · (z_km - k̄), with h the query before its normalisation: scores (N,).

    The gradient of z_q · z_km with respect to h is (z_km - (z_q · z_km) z_q) / ‖h‖, which is zero where query and key
    agree: its CAM explains what the query still lacks. Here the gradient is the key itself, so the CAM shows which
    positions put the key's features into the embedding. k̄ is a mean of other images' keys or zero. No length is
    divided by: the attention loss ignores the CAM's scale.

    Raises:
        InputError: The query before its normalisation is not known.
    """
    if embeddings.unnormalised is None:
        raise InputError(
            "attention.target=evidence needs the query's embedding before its normalisation: return it from the "
            "method's forward, MethodOutput(loss, embedding, unnormalised), and from its embed_unnormalised(images)"
        )
    key = embeddings.masked_key if embeddings.mean_key is None else embeddings.masked_key - embeddings.mean_key
    return (embeddings.unnormalised * key).sum(1)


TARGETS: dict[str, Target] = {"positive": positive, "contrastive": contrastive, "evidence": evidence}
"""The choices of ``attention.target``, next to a function."""


def target_named(target: str | Target) -> Target:
    """Return the target of a name, or the function itself.

    Raises:
        InputError: There is no such target.
    """
    return target if callable(target) else TARGETS[require_choice("attention.target", target, tuple(TARGETS))]


def uses_negatives(target: Target) -> bool:
    """Whether a target may read the negatives: positive and evidence do not; functions may."""
    return target not in (positive, evidence)


def scores(target: Target, embeddings: Embeddings) -> Tensor:
    """Compute a target's scores (N,), in float32 or wider also under autocast."""
    with without_autocast(embeddings.query.device):
        query, masked_key, negatives, temperature, unnormalised, mean_key = embeddings
        wide = Embeddings(
            at_least_float32(query),
            at_least_float32(masked_key),
            None if negatives is None else at_least_float32(negatives),
            temperature,
            None if unnormalised is None else at_least_float32(unnormalised),
            None if mean_key is None else at_least_float32(mean_key),
        )
        return target(wide)
