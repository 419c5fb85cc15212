"""Scores for ``castlit.callbacks.AttentionSupervision``: what the CAM of any module explains."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import torch
from torch import Tensor

from castlit.attention import has_object
from castlit.attention.keys import apply_mask
from castlit.nn import unit_length, untracked_batchnorm
from castlit.utils.dtype import at_least_float32, without_autocast
from castlit.utils.lightning import pl
from castlit.utils.validation import InputError, require_choice

Score: TypeAlias = Callable[[pl.LightningModule, Any, Tensor], Tensor]
"""A function of module, batch and the query's embedding, with graph, to one score for each image, (N,), with graph."""

Part: TypeAlias = str | int | Callable[[Any], Tensor]
"""A part of a batch: its key, its position, or a function of the batch."""


class MaskedKey:
    """CAST's score: how well the query's embedding matches that of the key under its mask.

    The masked key is embedded without a gradient and without updating batch norm.

    Args:
        embed: Name of a part or a method of the module that embeds the masked images, such as ``"forward_momentum"``;
            or a function of module and masked images. It must return the same kind of embedding as the query's:
            (N, dim), (N, dim, 1, 1), or a map (N, dim, h, w), which is averaged. It need not be normalised.
        images: The part of the batch with the keys, (N, 3, H, W), normalised.
        mask: The part of the batch with their masks, (N, 1, H, W), nonzero on the objects.
        target: ``"positive"``: the cosine (the paper). ``"evidence"``: the product of the query before its
            normalisation and the key of unit length, see :func:`castlit.attention.targets.evidence`; the query's
            embedding must then not be normalised, or the two are the same.

    Raises:
        InputError: There is no such target.
    """

    def __init__(
        self,
        embed: str | Callable[[Any, Tensor], Tensor],
        images: Part = "key",
        mask: Part = "key_mask",
        target: str = "positive",
    ) -> None:
        self.embed, self.images, self.mask = embed, images, mask
        self.target = require_choice("MaskedKey's target", target, ("positive", "evidence"))

    def __call__(self, pl_module: pl.LightningModule, batch: Any, embedding: Tensor) -> Tensor:  # noqa: ANN401
        """Compute the scores (N,).

        Raises:
            InputError: Module or batch have no part of that name, or the embeddings do not match.
        """
        images = apply_mask(part_of(batch, self.images, "MaskedKey's images"), self._mask(batch))
        with torch.no_grad(), untracked_batchnorm(pl_module):
            key = vectors(self._embedded(pl_module, images), "what MaskedKey's embed gives")
        query = vectors(embedding, "the query's embedding")
        if query.shape != key.shape:
            raise InputError(
                f"target: the query's embedding is {tuple(query.shape)}, the masked key's {tuple(key.shape)}: let "
                "AttentionSupervision's embedding and MaskedKey's embed name the same stage of the network"
            )
        with without_autocast(query.device):
            if self.target == "positive":
                query = unit_length(query)
            return (query * unit_length(key)).sum(1)

    def takes_part(self, batch: Any) -> Tensor:  # noqa: ANN401
        """Return booleans (N,): whether the key shows an object; without one there is no score to explain."""
        return has_object(self._mask(batch))

    def _mask(self, batch: Any) -> Tensor:  # noqa: ANN401
        return part_of(batch, self.mask, "MaskedKey's mask")

    def _embedded(self, pl_module: pl.LightningModule, images: Tensor) -> object:
        if callable(self.embed):
            return self.embed(pl_module, images)
        try:
            embed = attrgetter(self.embed)(pl_module)
        except AttributeError:
            raise InputError(
                f"target: {type(pl_module).__name__} has no {self.embed!r} to embed masked keys with"
            ) from None
        return embed(images)


class LabelLogit:
    """For a classifier: the logit of the image's label.

    Args:
        label: The part of the batch with the labels, int64 (N,).
    """

    def __init__(self, label: Part = "label") -> None:
        self.label = label

    def __call__(self, pl_module: pl.LightningModule, batch: Any, embedding: Tensor) -> Tensor:  # noqa: ANN401
        """Select the scores (N,) from the logits (N, classes).

        Raises:
            InputError: The embedding is not (N, classes), or the batch has no such labels.
        """
        label = part_of(batch, self.label, "LabelLogit's label")
        if not isinstance(embedding, Tensor) or embedding.dim() != 2 or label.shape != embedding.shape[:1]:
            raise InputError(
                f"target: LabelLogit needs logits (N, classes) and labels (N,), got {shape_of(embedding)} and "
                f"{shape_of(label)}: let AttentionSupervision's embedding name the layer that gives the logits"
            )
        return embedding.gather(1, label[:, None])[:, 0]


def part_of(batch: Any, part: Part, name: str) -> Tensor:  # noqa: ANN401
    """Return a part of a batch.

    Args:
        batch: The module's training batch.
        part: See :data:`Part`.
        name: The user's name for it, for messages.

    Raises:
        InputError: The batch has no such part.
    """
    try:
        found = part(batch) if callable(part) else batch[part]
    except (KeyError, IndexError, TypeError) as error:
        if callable(part):
            raise
        raise InputError(
            f"{name}: the batch, {_contents(batch)}, has no {part!r}: give its key or its position, or a function of "
            "the batch"
        ) from error
    if not isinstance(found, Tensor):
        raise InputError(f"{name} must be a tensor, got {type(found).__name__}")
    return found


def vectors(embedding: object, name: str) -> Tensor:
    """Return an embedding as (N, dim), in float32 or wider; a map (N, dim, h, w) is averaged.

    Raises:
        InputError: It has another shape.
    """
    if not isinstance(embedding, Tensor) or embedding.dim() not in (2, 4):
        raise InputError(
            f"target: {name} must be (N, dim) or (N, dim, h, w), got {shape_of(embedding)}: name another stage of the "
            "network, or give a function"
        )
    wide = at_least_float32(embedding)
    return wide.mean((2, 3)) if wide.dim() == 4 else wide


def shape_of(value: object) -> str:
    """Return a tensor's shape, or the type of anything else, for a message."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _contents(batch: object) -> str:
    if isinstance(batch, Mapping):
        return f"a dictionary of {', '.join(map(repr, batch))}"
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, Sequence) else "")
