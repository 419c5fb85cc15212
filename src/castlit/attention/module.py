"""The attention loss as a part to plug in: which layer, how heavy, whose numerics."""

from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from castlit.attention.cam import raw_cam
from castlit.attention.hooks import Activations, tap
from castlit.attention.loss import attention_loss, has_object, reference_attention_loss
from castlit.nn.checks import require_choice, require_number
from castlit.nn.distributed import mean_over_ranks, world_size
from castlit.nn.spec import Described


class AttentionOutput(NamedTuple):
    """What :class:`AttentionLoss` returns."""

    loss: Tensor
    """Scalar, with graph."""
    cam: Tensor
    """(N, h, w), not negative, no graph."""


class AttentionLoss(Described, nn.Module):
    """CAST's Grad-CAM attention loss (CVPR 2021, section 3).

    Args:
        layer: Name of the encoder's layer whose activations are looked at.
        weight: λ. ``mode="paper"``: loss = contrastive + λ · attention. ``mode="reference"``: the two are weighted
            1/(1+λ) and λ/(1+λ), which for λ = 3 gives 0.25 and 0.75. With 0 the loss is measured, but not trained.
        mode: ``"paper"``, or ``"reference"`` for the numbers of the public reference code, see
            :func:`castlit.attention.reference_attention_loss`.
        key: What the query is scored against. ``"masked_image"``: the embedding of the key under its mask, one more
            forward pass (the paper). ``"masked_features"``: the key's own feature map, which the step has computed
            anyway, pooled under the mask; no further pass.

    Raises:
        InputError: A negative weight, or no such mode or key.
    """

    def __init__(
        self, layer: str = "layer4", weight: float = 3.0, mode: str = "paper", key: str = "masked_image"
    ) -> None:
        super().__init__()
        self.layer = layer
        self.weight = require_number("attention.weight", weight, low=0)
        self.mode = require_choice("attention.mode", mode, ("paper", "reference"))
        self.key = require_choice("attention.key", key, ("masked_image", "masked_features"))

    def tap(self, encoder: nn.Module) -> AbstractContextManager[Activations]:
        """Open a tap on the layer of this encoder, see :func:`castlit.attention.tap`."""
        return tap(encoder, self.layer)

    def forward(self, score: Tensor, activations: Tensor | Activations, mask: Tensor) -> AttentionOutput:
        """Compute the CAM of the score and its loss against the mask; the same on every rank at the same time.

        The loss is the mean over all ranks' images with an object, as DDP averages gradients over the ranks: a rank
        with few such images weighs them no more than another.

        Args:
            score: One score per image, (N,), with graph.
            activations: (N, C, h, w), or what :meth:`tap` recorded.
            mask: (N, 1, H, W), nonzero on the object.
        """
        cam = raw_cam(score, activations, create_graph=self.weight > 0)
        loss = reference_attention_loss(cam, mask) if self.mode == "reference" else _mean_loss(cam.relu(), mask)
        return AttentionOutput(loss if self.weight > 0 else loss.detach(), cam.detach().relu())

    def combine(self, contrastive: Tensor, attention: Tensor) -> Tensor:
        """Add the two losses with the mode's weights."""
        if self.weight == 0:
            return contrastive
        total = contrastive + self.weight * attention
        return total / (1.0 + self.weight) if self.mode == "reference" else total

    def extra_repr(self) -> str:
        """Show the settings in the module's summary."""
        return f"layer={self.layer!r}, weight={self.weight}, mode={self.mode!r}, key={self.key!r}"


def _mean_loss(cam: Tensor, mask: Tensor) -> Tensor:
    loss = attention_loss(cam, mask)
    if world_size() == 1:
        return loss
    count = has_object(mask).sum().to(loss.dtype)
    return loss * count / mean_over_ranks(count).clamp(min=torch.finfo(loss.dtype).tiny)
