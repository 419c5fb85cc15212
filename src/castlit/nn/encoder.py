"""The encoder: backbone, global average pooling, head."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from castlit.nn.batchnorm import untracked_batchnorm
from castlit.nn.mask_grid import mask_grid
from castlit.utils.dtype import at_least_float32, without_autocast


class Encoder(nn.Module):
    """A backbone with a head on its pooled features.

    The backbone runs under the caller's autocast; pooling and head always run in float32. Grad-CAM differentiates
    through these two, and in bfloat16 its weights would be off by 10 %.

    Args:
        backbone: Network from images (N, 3, H, W) to a feature map (N, C, h, w).
        head: Network from (N, C) to the embedding (N, dim).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to embeddings (N, dim), not yet normalised."""
        return self._embed(self.backbone(images))

    def with_masked(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images, and their masked regions from the same forward pass.

        The feature map is pooled once as a whole and once under the mask, so the second embedding costs no pass through
        the backbone. It has no graph and does not update the head's batch norm.

        Args:
            images: (N, 3, H, W).
            mask: (N, 1, H', W'), not negative, of any size.

        Returns:
            Two embeddings (N, dim), not yet normalised.
        """
        feature_map: Tensor = self.backbone(images)
        return self._embed(feature_map), self._embed_masked(feature_map, mask)

    @torch.no_grad()
    def masked(self, images: Tensor, mask: Tensor) -> Tensor:
        """Compute only the second embedding of :meth:`with_masked`."""
        return self._embed_masked(self.backbone(images), mask)

    def _embed(self, feature_map: Tensor) -> Tensor:
        with without_autocast(feature_map.device):
            embedding: Tensor = self.head(at_least_float32(feature_map).mean((2, 3)))
        return embedding

    @torch.no_grad()
    def _embed_masked(self, feature_map: Tensor, mask: Tensor) -> Tensor:
        with without_autocast(feature_map.device), untracked_batchnorm(self.head):
            embedding: Tensor = self.head(masked_mean(at_least_float32(feature_map), mask))
        return embedding


class DenseFeatures(NamedTuple):
    """The output of :meth:`DenseEncoder.dense`; the P = h · w positions are in row-major order."""

    embedding: Tensor
    """(N, dim): of the whole image, not yet normalised."""
    maps: Tensor
    """(N, C, P): the backbone's feature map."""
    parts: Tensor
    """(N, dim, P): the dense head's projection of each position, not yet normalised."""
    masked: Tensor | None
    """(N, dim): of the masked region, see :meth:`Encoder.with_masked`; None without a mask."""


class DenseEncoder(Encoder):
    """An encoder with a second head, which projects every position of the feature map.

    Its ``forward`` is that of :class:`Encoder`; only :meth:`dense` uses the second head.

    Args:
        backbone: Network from images (N, 3, H, W) to a feature map (N, C, h, w).
        head: Network from (N, C) to the embedding (N, dim).
        dense_head: Network from (N, C, h, w) to (N, dim, h, w).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, dense_head: nn.Module) -> None:
        super().__init__(backbone, head)
        self.dense_head = dense_head

    def dense(self, images: Tensor, mask: Tensor | None = None) -> DenseFeatures:
        """Embed images (N, 3, H, W), their positions, and their regions under masks (N, 1, H', W'), in one pass."""
        feature_map: Tensor = self.backbone(images)
        with without_autocast(feature_map.device):
            maps = at_least_float32(feature_map)
            parts: Tensor = self.dense_head(maps)
        masked = None if mask is None else self._embed_masked(feature_map, mask)
        return DenseFeatures(self._embed(feature_map), maps.flatten(2), parts.flatten(2), masked)


def masked_mean(feature_map: Tensor, mask: Tensor) -> Tensor:
    """Average a feature map (N, C, h, w) over a mask (N, 1, H, W), which is area-averaged to (h, w).

    Returns:
        (N, C); zero where the mask is empty.
    """
    grid = mask_grid(mask, (feature_map.shape[2], feature_map.shape[3]), feature_map.dtype)
    total = grid.sum((2, 3))
    return (feature_map * grid).sum((2, 3)) / torch.where(total > 0, total, torch.ones_like(total))
