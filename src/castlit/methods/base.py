"""The interface of a contrastive method to CASTModule."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self

from castlit.nn.batchnorm import untracked_batchnorm
from castlit.nn.encoder import Encoder
from castlit.nn.normalisation import unit_length
from castlit.utils.serializable import Described
from castlit.utils.validation import InputError


class _Output(NamedTuple):
    loss: Tensor
    embedding: Tensor


class MethodOutput(_Output):
    """The output of a method's forward pass; it unpacks as ``loss, embedding``.

    Attributes:
        loss: Scalar, with graph.
        embedding: The query's embedding z_q, (N, dim), L2-normalised, with graph.
        unnormalised: The same before its normalisation, (N, dim), with graph; for ``attention.target=evidence``.
    """

    unnormalised: Tensor | None

    def __new__(cls, loss: Tensor, embedding: Tensor, unnormalised: Tensor | None = None) -> "MethodOutput":
        """Build the output."""
        self = super().__new__(cls, loss, embedding)
        self.unnormalised = unnormalised
        return self

    def _replace(self, **changes: Any) -> Self:  # noqa: ANN401
        return type(self)(**{**self._asdict(), "unnormalised": self.unnormalised, **changes})


class _Masked(NamedTuple):
    loss: Tensor
    embedding: Tensor
    masked_key: Tensor


class MaskedOutput(_Masked):
    """The output of a method's forward pass with the key's mask; it unpacks as ``loss, embedding, masked_key``.

    Attributes:
        loss: Scalar, with graph.
        embedding: The query's embedding z_q, (N, dim), L2-normalised, with graph.
        masked_key: The embedding z_km of the key's masked region, (N, dim), L2-normalised, no graph.
        unnormalised: As in :class:`MethodOutput`.
    """

    unnormalised: Tensor | None

    def __new__(
        cls, loss: Tensor, embedding: Tensor, masked_key: Tensor, unnormalised: Tensor | None = None
    ) -> "MaskedOutput":
        """Build the output."""
        self = super().__new__(cls, loss, embedding, masked_key)
        self.unnormalised = unnormalised
        return self

    def _replace(self, **changes: Any) -> Self:  # noqa: ANN401
        return type(self)(**{**self._asdict(), "unnormalised": self.unnormalised, **changes})


class Method(Described, nn.Module):
    """Base class of the methods; your own may inherit it, or just have ``encoder``, ``forward`` and ``target``.

    Grad-CAM relies on three properties: ``forward`` runs the encoder on the query once and before the key; ``target``
    returns embeddings in the same space as ``MethodOutput.embedding``, without a gradient and without updating batch
    norm; and evaluation mode changes neither queue nor momentum encoder.

    Use :class:`castlit.nn.HeadNorm` for batch norm in a head (as :func:`castlit.nn.mlp_head` does): with any other, an
    image's CAM depends on the other images of its batch.

    Attributes:
        encoder: The trained network; ``encoder.backbone`` is what downstream tasks take.
    """

    encoder: nn.Module

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Contrast two views of the same images, both (N, 3, H, W).

        Args:
            query: One view of each image.
            key: The other.
            key_mask: (N, 1, H, W), nonzero on the key's objects. With it, the output is a :class:`MaskedOutput`, whose
                masked key is the key's own feature map, pooled under the mask: no further forward pass.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(query, key)")

    def embed_unnormalised(self, images: Tensor) -> Tensor:
        """Return the query-side embedding (N, dim) of images (N, 3, H, W) before its normalisation, with graph.

        A method whose embedding is not its encoder's output overrides this.
        """
        embedding: Tensor = self.encoder(images)
        return embedding

    def embed(self, images: Tensor) -> Tensor:
        """Return the query-side embedding (N, dim) of images (N, 3, H, W), L2-normalised, with graph."""
        return unit_length(self.embed_unnormalised(images))

    def target(self, images: Tensor) -> Tensor:
        """Return the key-side embedding (N, dim) of images (N, 3, H, W), L2-normalised, with no graph.

        This is the stop-gradient branch; methods with a momentum encoder use that.
        """
        with torch.no_grad(), untracked_batchnorm(self.encoder):
            return unit_length(self.encoder(images))

    def negatives(self) -> Tensor | None:
        """Return other images' keys (K, dim), L2-normalised, with no graph; None where the method stores none."""
        return None

    @property
    def target_encoder(self) -> Encoder:
        """The encoder that :meth:`target` uses: the momentum encoder, if there is one."""
        found = getattr(self, "momentum_encoder", self.encoder)
        if not isinstance(found, Encoder):
            raise InputError(f"{type(self).__name__} has no castlit.nn.Encoder to pool masked features from")
        return found

    def masked_target(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return the key-side embedding (N, dim) of images, with features pooled under masks (N, 1, H, W)."""
        with untracked_batchnorm(self.target_encoder):
            return unit_length(self.target_encoder.masked(images, mask))

    def after_step(self, progress: float = 0.0) -> None:
        """Called once after each optimiser step; methods with a momentum encoder update it here.

        Args:
            progress: Fraction of the run's optimiser steps that were taken before this one, in [0, 1). Your own
                method may leave this argument out.
        """


def output(
    loss: Tensor, embedding: Tensor, unnormalised: Tensor, masked_key: Tensor | None
) -> MethodOutput | MaskedOutput:
    """Build the output, with the masked key normalised; without it if there was no mask."""
    if masked_key is None:
        return MethodOutput(loss, embedding, unnormalised)
    return MaskedOutput(loss, embedding, unit_length(masked_key), unnormalised)


def embed_key(encoder: Encoder, key: Tensor, key_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Embed the key and, if there is a mask, its masked region; neither is normalised."""
    return (encoder(key), None) if key_mask is None else encoder.with_masked(key, key_mask)
