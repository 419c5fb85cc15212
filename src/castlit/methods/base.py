"""What every method offers: one small interface between contrasting and looking."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.nn.batchnorm import untracked_batchnorm
from castlit.nn.spec import Described


class MethodOutput(NamedTuple):
    """What a method's forward pass returns."""

    loss: Tensor
    """Scalar, with graph."""
    embedding: Tensor
    """The query's embedding z_q, (N, dim), L2-normalised, with graph."""


class Method(Described, nn.Module):
    """Base of the methods; a method of your own may inherit it or just offer ``encoder``, ``forward`` and ``target``.

    Three promises make Grad-CAM work on top: ``forward`` runs the encoder on the query once and before the key;
    ``target`` gives embeddings in the same space as ``MethodOutput.embedding``, with no gradient and no trace in
    batch norm; and nothing is enqueued or averaged in evaluation mode.

    Attributes:
        encoder: The trained network; ``encoder.backbone`` is what downstream tasks take.
    """

    encoder: nn.Module

    def forward(self, query: Tensor, key: Tensor) -> MethodOutput:
        """Contrast two views of the same images, both (N, 3, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(query, key)")

    def embed(self, images: Tensor) -> Tensor:
        """Return the query-side embedding (N, dim) of images (N, 3, H, W), L2-normalised, with graph."""
        return F.normalize(self.encoder(images), dim=1)

    def target(self, images: Tensor) -> Tensor:
        """Return the key-side embedding (N, dim) of images (N, 3, H, W), L2-normalised, with no graph.

        This is the stop-gradient branch; methods with a momentum encoder answer with that one.
        """
        with torch.no_grad(), untracked_batchnorm(self.encoder):
            return F.normalize(self.encoder(images), dim=1)

    def after_step(self) -> None:
        """Do what follows each optimiser step; methods with a momentum encoder update it here, once."""
