"""What a CAM of someone else's module explains: ready-made scores for ``castlit.callbacks.AttentionSupervision``."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import pytorch_lightning as pl
import torch
from torch import Tensor

from castlit.attention import has_object
from castlit.module.explain import masked
from castlit.nn import unit_length, untracked_batchnorm
from castlit.utils.dtype import at_least_float32
from castlit.utils.validation import InputError

Score: TypeAlias = Callable[[pl.LightningModule, Any, Tensor], Tensor]
"""From module, batch and the query's embedding, with graph, to one score for each image, (N,), with graph."""

Part: TypeAlias = str | int | Callable[[Any], Tensor]
"""A part of a batch: its key, its place, or a function from the batch to it."""


class MaskedKey:
    """CAST's score: the cosine of the query's embedding and that of the key under its mask.

    The masked key is embedded with no gradient and leaves no trace in batch norm.

    Args:
        embed: What embeds it: the name of a part or a method of the module, such as ``"forward_momentum"``, called with
            the masked images; or a function of module and masked images. It must give what the query's embedding is,
            (N, dim), (N, dim, 1, 1), or a map (N, dim, h, w), which is averaged; it need not be normalised.
        images: Which part of the batch are the keys, (N, 3, H, W), normalised.
        mask: Which part of the batch are their masks, (N, 1, H, W), nonzero on the objects.
    """

    def __init__(
        self, embed: str | Callable[[Any, Tensor], Tensor], images: Part = "key", mask: Part = "key_mask"
    ) -> None:
        self.embed, self.images, self.mask = embed, images, mask

    def __call__(self, pl_module: pl.LightningModule, batch: Any, embedding: Tensor) -> Tensor:  # noqa: ANN401
        """Compute the scores (N,).

        Raises:
            InputError: The module has nothing of that name, the batch has no such part, or the embeddings do not match.
        """
        images = masked(part_of(batch, self.images, "MaskedKey's images"), self._mask(batch))
        with torch.no_grad(), untracked_batchnorm(pl_module):
            key = vectors(self._embedded(pl_module, images), "what MaskedKey's embed gives")
        query = vectors(embedding, "the query's embedding")
        if query.shape != key.shape:
            raise InputError(
                f"target: the query's embedding is {tuple(query.shape)}, the masked key's {tuple(key.shape)}: let "
                "AttentionSupervision's embedding and MaskedKey's embed name the same stage of the network"
            )
        with torch.autocast(query.device.type, enabled=False):
            return (unit_length(query) * unit_length(key)).sum(1)

    def takes_part(self, batch: Any) -> Tensor:  # noqa: ANN401
        """Return booleans (N,): where the key shows nothing of the objects, there is no score to explain."""
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
                f"target: {type(pl_module).__name__} has nothing called {self.embed!r} to embed masked keys with"
            ) from None
        return embed(images)


class LabelLogit:
    """For a classifier: the logit of the image's label.

    Args:
        label: Which part of the batch are the labels, int64 (N,).
    """

    def __init__(self, label: Part = "label") -> None:
        self.label = label

    def __call__(self, pl_module: pl.LightningModule, batch: Any, embedding: Tensor) -> Tensor:  # noqa: ANN401
        """Pick the scores (N,) out of the logits (N, classes).

        Raises:
            InputError: What is given are no logits, or the batch has no such labels.
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
        batch: Whatever the module trains on.
        part: See :data:`Part`.
        name: What the user calls it.

    Raises:
        InputError: The batch has no such part.
    """
    try:
        found = part(batch) if callable(part) else batch[part]
    except (KeyError, IndexError, TypeError) as error:
        if callable(part):
            raise
        raise InputError(
            f"{name}: the batch, {_contents(batch)}, has no {part!r}: give its key or its place, or a function from "
            "the batch to it"
        ) from error
    if not isinstance(found, Tensor):
        raise InputError(f"{name} must be a tensor, got {type(found).__name__}")
    return found


def vectors(embedding: object, name: str) -> Tensor:
    """Return an embedding as (N, dim), in float32 or wider; a map (N, dim, h, w) is averaged.

    Raises:
        InputError: It is no such tensor.
    """
    if not isinstance(embedding, Tensor) or embedding.dim() not in (2, 4):
        raise InputError(
            f"target: {name} must be (N, dim) or (N, dim, h, w), got {shape_of(embedding)}: name another stage of the "
            "network, or give a function"
        )
    wide = at_least_float32(embedding)
    return wide.mean((2, 3)) if wide.dim() == 4 else wide


def shape_of(value: object) -> str:
    """Return a tensor's shape, or what else it is, for a message."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _contents(batch: object) -> str:
    if isinstance(batch, Mapping):
        return f"a dictionary of {', '.join(map(repr, batch))}"
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, Sequence) else "")
