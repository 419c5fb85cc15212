"""The encoder: backbone, global average pooling, head."""

import torch
from torch import Tensor, nn

from castlit.nn.precision import at_least_float32


class Encoder(nn.Module):
    """A backbone with a head on its pooled features.

    The backbone runs under whatever autocast is on; pooling and head always run in float32. Grad-CAM differentiates
    through these two, and in bfloat16 its weights would be off by a tenth.

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
        feature_map: Tensor = self.backbone(images)
        with torch.autocast(feature_map.device.type, enabled=False):
            embedding: Tensor = self.head(at_least_float32(feature_map).mean((2, 3)))
        return embedding
