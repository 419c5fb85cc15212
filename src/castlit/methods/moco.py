"""MoCo v1 and v2: contrast against a queue of keys from a momentum encoder."""

import torch
from torch import Tensor, nn

from castlit.methods.base import MaskedOutput, Method, MethodOutput, embed_key, output
from castlit.methods.info_nce import info_nce
from castlit.nn.backbones import build_backbone, feature_channels
from castlit.nn.batchnorm import untracked_batchnorm
from castlit.nn.encoder import Encoder
from castlit.nn.heads import linear_head, mlp_head
from castlit.nn.normalisation import unit_length
from castlit.nn.queue import KeyQueue
from castlit.nn.shuffled_batchnorm import encode_shuffled, interleave_ranks
from castlit.optim.ema import MOMENTUM_SCHEDULES, momentum_copy, scheduled_momentum, update_average
from castlit.utils.distributed import gather
from castlit.utils.validation import require_bool, require_choice, require_int, require_number


class MoCo(Method):
    """Momentum contrast (v1: He et al., CVPR 2020; v2: Chen et al., arXiv 2003.04297).

    MoCo v1 is ``mlp=False, temperature=0.07``; v2 is the default.

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of the embedding.
        mlp: Projection head with a hidden layer (v2) or linear (v1).
        queue_size: Number of keys K in the queue, at least 1.
        momentum: m in [0, 1] of the momentum encoder.
        temperature: T > 0.
        shuffle_bn: Shuffle the keys over the ranks, so that batch norm statistics do not reveal the positive.
        momentum_schedule: ``"constant"``, or ``"cosine"`` from ``momentum`` to 1 over the run.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet50",
        dim: int = 128,
        mlp: bool = True,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        shuffle_bn: bool = True,
        momentum_schedule: str = "constant",
    ) -> None:
        super().__init__()
        require_int("dim", dim, low=1)
        self.momentum = require_number("momentum", momentum, low=0, high=1)
        self.momentum_schedule = require_choice("momentum_schedule", momentum_schedule, MOMENTUM_SCHEDULES)
        self.temperature = require_number("temperature", temperature, above=0)
        self.shuffle_bn = require_bool("shuffle_bn", shuffle_bn)
        self.queue = KeyQueue(queue_size, dim)
        trunk = build_backbone(backbone)
        width = feature_channels(trunk)
        head = mlp_head(width, width, dim) if require_bool("mlp", mlp) else linear_head(width, dim)
        self.encoder = Encoder(trunk, head)
        self.momentum_encoder = momentum_copy(self.encoder)

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Contrast queries with their keys and the queue, then (in training) enqueue the keys.

        Args:
            query: One view of each image, (N, 3, H, W).
            key: Another view, (N, 3, H, W).
            key_mask: See :class:`castlit.methods.Method`.
        """
        h_q = self.embed_unnormalised(query)
        z_q = unit_length(h_q)
        z_k, gathered, masked = self._keys(key, key_mask)
        loss = info_nce(z_q, z_k, self.queue.snapshot(), self.temperature)
        if self.training:
            self.queue.enqueue(gathered)
        return output(loss, z_q, h_q, masked)

    def target(self, images: Tensor) -> Tensor:
        """Return the momentum encoder's embedding (N, dim), without updating its batch norm."""
        with untracked_batchnorm(self.momentum_encoder):
            return self._keys(images, None)[0]

    def negatives(self) -> Tensor:
        """Return a copy of the queue, (K, dim)."""
        return self.queue.snapshot()

    def after_step(self, progress: float = 0.0) -> None:
        """Update the momentum encoder: call it once after each optimiser step; see :class:`castlit.methods.Method`."""
        momentum = scheduled_momentum(self.momentum, self.momentum_schedule, progress)
        update_average(self.momentum_encoder, self.encoder, momentum)

    @torch.no_grad()
    def _keys(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """This rank's keys and those of all ranks, normalised; and, with a mask, the masked keys."""
        inputs = (images,) if mask is None else (images, mask)
        dim = self.queue.keys.shape[1]
        if self.shuffle_bn and self.training:
            mine, new = encode_shuffled(self._encode, *inputs, shared=dim)
        else:
            mine = self._encode(*inputs)
            new = gather(mine[:, :dim]) if self.training else mine[:, :dim]
        return (
            unit_length(mine[:, :dim]),
            unit_length(interleave_ranks(new) if self.training else new),  # the queue's order
            mine[:, dim:] if mask is not None else None,
        )

    def _encode(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Keys (N, dim), or keys and masked keys side by side, (N, 2 · dim): one tensor to shuffle back."""
        key, masked = embed_key(self.momentum_encoder, images, mask)
        return key if masked is None else torch.cat([key, masked], dim=1)
