"""MoCo v3: contrast predictions with the momentum encoder's keys of the batch, both ways; no queue."""

import torch
from torch import Tensor, nn

from castlit.methods.base import MaskedOutput, Method, MethodOutput, embed_key, output
from castlit.methods.info_nce import info_nce_in_batch
from castlit.nn.backbones import build_backbone, feature_channels
from castlit.nn.batchnorm import untracked_batchnorm
from castlit.nn.encoder import Encoder
from castlit.nn.heads import mlp_head
from castlit.nn.normalisation import unit_length
from castlit.optim.ema import MOMENTUM_SCHEDULES, momentum_copy, scheduled_momentum, update_average
from castlit.utils.distributed import gather, rank
from castlit.utils.dtype import without_autocast
from castlit.utils.validation import require_choice, require_int, require_number


class MoCoV3(Method):
    """Momentum contrast, version 3 (Chen, Xie and He, ICCV 2021), with the heads of its ResNet.

    The defaults are those of the official code for a ResNet-50; for vision transformers it uses temperature 0.2.

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of projection and prediction.
        hidden: Width of the hidden layers of projector and predictor.
        momentum: Momentum in [0, 1] of the momentum encoder.
        temperature: T > 0.
        momentum_schedule: ``"constant"``, or ``"cosine"`` from ``momentum`` to 1 over the run, as in the paper.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet50",
        dim: int = 256,
        hidden: int = 4096,
        momentum: float = 0.99,
        temperature: float = 1.0,
        momentum_schedule: str = "cosine",
    ) -> None:
        super().__init__()
        require_int("dim", dim, low=1)
        require_int("hidden", hidden, low=1)
        self.momentum = require_number("momentum", momentum, low=0, high=1)
        self.momentum_schedule = require_choice("momentum_schedule", momentum_schedule, MOMENTUM_SCHEDULES)
        self.temperature = require_number("temperature", temperature, above=0)
        trunk = build_backbone(backbone)
        head = mlp_head(feature_channels(trunk), hidden, dim, norm=True, last_norm=True)
        self.encoder = Encoder(trunk, head)
        self.predictor = mlp_head(dim, hidden, dim, norm=True, last_norm=True)
        self.momentum_encoder = momentum_copy(self.encoder)

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Contrast each view (N, 3, H, W) with the keys of the other, of all ranks (algorithm 1)."""
        h_q = self.embed_unnormalised(query)
        p_q, p_k = unit_length(h_q), self.embed(key)
        with torch.no_grad():
            t_q = unit_length(self.momentum_encoder(query))
            projected, masked = embed_key(self.momentum_encoder, key, key_mask)
            t_k = unit_length(projected)
        return output(self._contrast(p_q, t_k) + self._contrast(p_k, t_q), p_q, h_q, masked)

    def embed_unnormalised(self, images: Tensor) -> Tensor:
        """Return the prediction (N, dim), with graph."""
        projected = self.encoder(images)
        with without_autocast(projected.device):
            prediction: Tensor = self.predictor(projected)
        return prediction

    def target(self, images: Tensor) -> Tensor:
        """Return the momentum encoder's normalised projection (N, dim), without updating its batch norm."""
        with torch.no_grad(), untracked_batchnorm(self.momentum_encoder):
            return unit_length(self.momentum_encoder(images))

    def after_step(self, progress: float = 0.0) -> None:
        """Update the momentum encoder: call it once after each optimiser step; see :class:`castlit.methods.Method`."""
        momentum = scheduled_momentum(self.momentum, self.momentum_schedule, progress)
        update_average(self.momentum_encoder, self.encoder, momentum)

    def _contrast(self, predictions: Tensor, keys: Tensor) -> Tensor:
        # The factor 2 T makes the gradient's size independent of T (section 3).
        loss = info_nce_in_batch(predictions, gather(keys), self.temperature, first=rank() * len(keys))
        return 2 * self.temperature * loss
