"""DenseCL: MoCo v2, plus the same contrast between positions of the feature maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.methods.base import MaskedOutput, MethodOutput, output
from castlit.methods.info_nce import info_nce
from castlit.methods.moco import MoCo
from castlit.nn.backbones import feature_channels
from castlit.nn.encoder import DenseEncoder, DenseFeatures
from castlit.nn.heads import dense_head
from castlit.nn.normalisation import unit_length
from castlit.nn.queue import KeyQueue
from castlit.nn.shuffled_batchnorm import encode_shuffled, interleave_ranks
from castlit.optim.ema import momentum_copy
from castlit.utils.distributed import gather
from castlit.utils.dtype import without_autocast
from castlit.utils.validation import require_number


class DenseCL(MoCo):
    """Dense contrastive learning (Wang et al., CVPR 2021).

    The embedding is that of the whole image, as in MoCo v2; only the loss uses the dense head.

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of both heads' output.
        queue_size: Number of keys in each of the two queues, at least 1.
        momentum: m in [0, 1] of the momentum encoder.
        temperature: T > 0, of both losses.
        dense_weight: λ in [0, 1]: loss = (1 - λ) · global + λ · dense (equation 3).
        shuffle_bn: Shuffle the keys over the ranks, as MoCo does. Their feature maps are then exchanged between ranks,
            too: some 400 kB for each image with a ResNet-50.
        momentum_schedule: ``"constant"``, or ``"cosine"`` from ``momentum`` to 1 over the run.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet50",
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        dense_weight: float = 0.5,
        shuffle_bn: bool = True,
        momentum_schedule: str = "constant",
    ) -> None:
        super().__init__(
            backbone,
            dim=dim,
            queue_size=queue_size,
            momentum=momentum,
            temperature=temperature,
            shuffle_bn=shuffle_bn,
            momentum_schedule=momentum_schedule,
        )
        self.dense_weight = require_number("dense_weight", dense_weight, low=0, high=1)
        self.dense_queue = KeyQueue(queue_size, dim)
        trunk, head = self.encoder.backbone, self.encoder.head
        self._channels = feature_channels(trunk)
        self.encoder: DenseEncoder = DenseEncoder(trunk, head, dense_head(self._channels, self._channels, dim))
        self.momentum_encoder: DenseEncoder = momentum_copy(self.encoder)

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Contrast queries and their positions with both queues, then (in training) enqueue the keys.

        Args:
            query: One view of each image, (N, 3, H, W).
            key: Another view, (N, 3, H, W).
            key_mask: See :class:`castlit.methods.Method`.
        """
        queries = self.encoder.dense(query)
        z_q = unit_length(queries.embedding)
        keys, gathered, gathered_dense = self._dense_keys(key, key_mask)
        global_loss = info_nce(z_q, keys.embedding, self.queue.snapshot(), self.temperature)
        found = keys.parts.take_along_dim(matches(queries.maps, keys.maps)[:, None], dim=2)
        dense = info_nce(_rows(unit_length(queries.parts)), _rows(found), self.dense_queue.snapshot(), self.temperature)
        if self.training:
            self.queue.enqueue(gathered)
            self.dense_queue.enqueue(gathered_dense)
        loss = (1 - self.dense_weight) * global_loss + self.dense_weight * dense
        return output(loss, z_q, queries.embedding, keys.masked)

    @torch.no_grad()
    def _dense_keys(self, images: Tensor, mask: Tensor | None) -> tuple[DenseFeatures, Tensor, Tensor]:
        """This rank's keys, normalised; and of all ranks, the keys (M, dim) and the pooled dense keys (M, dim)."""
        inputs = (images,) if mask is None else (images, mask)
        dim = self.queue.keys.shape[1]
        if self.shuffle_bn and self.training:
            mine, new = encode_shuffled(self._packed, *inputs, shared=2 * dim)
        else:
            mine = self._packed(*inputs)
            new = gather(mine[:, : 2 * dim]) if self.training else mine[:, : 2 * dim]
        new = (interleave_ranks(new) if self.training else new).reshape(-1, 2, dim)  # the queues' order
        fixed = 2 * dim if mask is None else 3 * dim
        maps_and_parts = mine[:, fixed:].reshape(len(mine), self._channels + dim, -1)
        keys = DenseFeatures(
            unit_length(mine[:, :dim]),
            maps_and_parts[:, : self._channels],
            unit_length(maps_and_parts[:, self._channels :]),
            None if mask is None else mine[:, 2 * dim : fixed],
        )
        return keys, unit_length(new[:, 0]), unit_length(new[:, 1])

    def _packed(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """All outputs for the keys side by side, (N, ...): one tensor to shuffle back."""
        embedding, maps, parts, masked = self.momentum_encoder.dense(images, mask)
        # The second queue stores one vector for each image: its pooled dense keys.
        vectors = [embedding, parts.mean(2)] if masked is None else [embedding, parts.mean(2), masked]
        return torch.cat([*vectors, maps.flatten(1), parts.flatten(1)], dim=1)


@torch.no_grad()
def matches(query_maps: Tensor, key_maps: Tensor) -> Tensor:
    """Find, for each position of the query, the key's position with the most similar backbone features (equation 2).

    Args:
        query_maps: Feature maps (N, C, P) of the queries.
        key_maps: Feature maps (N, C, P') of the keys.

    Returns:
        Indices in [0, P'), (N, P): the position with the highest cosine.
    """
    # Without a gradient, torch's own will do: it takes a quarter of unit_length's time on feature maps.
    query_maps, key_maps = F.normalize(query_maps, dim=1), F.normalize(key_maps, dim=1)
    with without_autocast(query_maps.device):
        return torch.einsum("ncp,ncr->npr", query_maps, key_maps).argmax(2)


def _rows(parts: Tensor) -> Tensor:
    """(N, dim, P) to (N · P, dim)."""
    return parts.transpose(1, 2).flatten(0, 1)
