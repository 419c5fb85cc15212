"""What BYOL and MoCo v3 share: predictions of the momentum encoder's embeddings of the other view."""

import torch
from torch import Tensor, nn

from castlit.methods.base import MaskedOutput, Method, MethodOutput, embed_key, output
from castlit.nn.backbones import build_backbone, feature_channels
from castlit.nn.batchnorm import untracked_batchnorm
from castlit.nn.encoder import Encoder
from castlit.nn.heads import mlp_head
from castlit.nn.normalisation import unit_length
from castlit.optim.ema import MOMENTUM_SCHEDULES, momentum_copy, scheduled_momentum, update_average
from castlit.utils.dtype import without_autocast
from castlit.utils.validation import require_choice, require_int, require_number


class MomentumPredictor(Method):
    """An encoder with a predictor, and a momentum encoder without one; subclasses define :meth:`loss`.

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of projection and prediction.
        hidden: Width of the hidden layers of projector and predictor.
        momentum: Momentum in [0, 1] of the momentum encoder.
        momentum_schedule: ``"constant"``, or ``"cosine"`` from ``momentum`` to 1 over the run.
        last_norm: Whether projector and predictor end in batch norm.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(
        self, backbone: str | nn.Module, dim: int, hidden: int, momentum: float, momentum_schedule: str, last_norm: bool
    ) -> None:
        super().__init__()
        require_int("dim", dim, low=1)
        require_int("hidden", hidden, low=1)
        self.momentum = require_number("momentum", momentum, low=0, high=1)
        self.momentum_schedule = require_choice("momentum_schedule", momentum_schedule, MOMENTUM_SCHEDULES)
        trunk = build_backbone(backbone)
        head = mlp_head(feature_channels(trunk), hidden, dim, norm=True, last_norm=last_norm)
        self.encoder = Encoder(trunk, head)
        self.predictor = mlp_head(dim, hidden, dim, norm=True, last_norm=last_norm)
        self.momentum_encoder = momentum_copy(self.encoder)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The loss of one view's predictions and the other's targets, both (N, dim) and L2-normalised."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(predictions, targets)")

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Predict each view (N, 3, H, W) from the other; the loss is the sum of both ways."""
        h_q = self.embed_unnormalised(query)
        p_q, p_k = unit_length(h_q), self.embed(key)
        with torch.no_grad():
            t_q = unit_length(self.momentum_encoder(query))
            projected, masked = embed_key(self.momentum_encoder, key, key_mask)
            t_k = unit_length(projected)
        return output(self.loss(p_q, t_k) + self.loss(p_k, t_q), p_q, h_q, masked)

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
