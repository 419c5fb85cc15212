"""torchvision's classifiers as backbones, under torchvision's parameter names."""

from collections import OrderedDict
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.nn.features_only import FeaturesOnly, end_at_features

# The classifiers' parts behind the last feature map.
_CLASSIFIER_PARTS = ("avgpool", "flatten", "dropout", "fc", "classifier", "head")
# Explicit, since torchvision warns that its defaults will change.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}


def torchvision_names() -> list[str]:
    """All classifiers of the installed torchvision."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def build_torchvision(name: str) -> nn.Module:
    """Build the features of a torchvision model: images (N, 3, H, W) to a feature map (N, C, h, w).

    ViTs fold the patch tokens to their grid and accept all image sizes that their patches divide: position embeddings
    keep their size and are interpolated in each pass. ``maxvit_t`` accepts one size only.

    Args:
        name: One of :func:`torchvision_names`.
    """
    network = torchvision.models.get_model(name, weights=None, **_ARGUMENTS.get(name, {}))
    if isinstance(network, torchvision.models.VisionTransformer):
        size = (network.image_size, network.image_size)
        return end_at_features(_VisionTransformerFeatures(network, name, size), prefix=1)
    if isinstance(network, torchvision.models.MaxVit):
        return end_at_features(_MaxVitFeatures(network, name, (224, 224)), prefix=0)
    # The others are a plain chain of children up to the classifier.
    trunk = OrderedDict((name, part) for name, part in network.named_children() if name not in _CLASSIFIER_PARTS)
    if isinstance(network, torchvision.models.DenseNet):
        trunk["relu"] = nn.ReLU()  # torchvision applies it in forward().
    return nn.Sequential(trunk)


class _MaxVitFeatures(FeaturesOnly):
    def features(self, images: Tensor) -> Tensor:
        network: Any = self.network
        features: Tensor = network.stem(images)
        for block in network.blocks:
            features = block(features)
        return features


class _VisionTransformerFeatures(FeaturesOnly):
    """torchvision's ``VisionTransformer.forward`` up to the last norm, for images of other sizes, too."""

    def features(self, images: Tensor) -> Tensor:
        network: Any = self.network
        height, width = images.shape[-2:]
        if height % network.patch_size or width % network.patch_size:
            raise RuntimeError(f"not a multiple of its patches of {network.patch_size} px")
        patches: Tensor = network.conv_proj(images)
        tokens = torch.cat([network.class_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self._positions(*patches.shape[-2:])
        features: Tensor = network.encoder.ln(network.encoder.layers(network.encoder.dropout(tokens)))
        return features

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings (1, 1 + rows · columns, C) for the class token and this grid."""
        own: Tensor = self.network.encoder.pos_embedding  # type: ignore[assignment, union-attr]
        side = int(self.size[0] // self.network.patch_size)  # type: ignore[operator]
        if (rows, columns) == (side, side):
            return own
        grid = own[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        grid = F.interpolate(grid, (rows, columns), mode="bicubic", antialias=True)
        return torch.cat([own[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
