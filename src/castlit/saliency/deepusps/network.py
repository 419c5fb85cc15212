"""A small segmentation network: a backbone of castlit with a light decoder."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.nn import build_backbone
from castlit.nn.output_shape import blank_image_output
from castlit.utils.validation import InputError

FINEST = 4
"""Stride of the logit map in pixels of the input."""

_COARSEST = 64


class Level(NamedTuple):
    """A feature map inside a backbone."""

    layer: str
    """Name of the layer; empty for the backbone itself."""
    channels: int
    stride: int
    """In pixels of the input."""


class SaliencyNetwork(nn.Module):
    """Maps images to a map of logits; higher is more salient.

    The decoder goes from the backbone's coarsest feature map to its finest (Lin et al., Feature Pyramid Networks, CVPR
    2017). It starts from the mean over the image, because saliency is relative to the rest of the image.

    Args:
        backbone: See :func:`castlit.nn.build_backbone`.
        width: Channels of the decoder, a multiple of 8.

    Raises:
        InputError: There is no such backbone, or it has no feature maps.
    """

    def __init__(self, backbone: str | nn.Module = "tiny_resnet", width: int = 64) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.levels = feature_levels(self.backbone)
        self.laterals = nn.ModuleList(nn.Conv2d(level.channels, width, 1) for level in self.levels)
        self.context = nn.Conv2d(self.levels[0].channels, width, 1)
        # If the backbone's finest map is coarser than the output, it is enlarged step by step.
        enlargements = max(0, (self.levels[-1].stride // FINEST - 1).bit_length())
        self.merges = nn.ModuleList(_block(width) for _ in range(len(self.levels) + enlargements))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, 1, ⌈H / 4⌉, ⌈W / 4⌉)."""
        maps = self._feature_maps(images)
        x = self.context(maps[0].mean((2, 3), keepdim=True))
        for lateral, merge, feature_map in zip(self.laterals, self.merges, maps, strict=False):
            x = merge(_enlarged(x, feature_map.shape[2:]) + lateral(feature_map))
        finest = [-(-side // FINEST) for side in images.shape[2:]]
        for merge in self.merges[len(maps) :]:
            x = merge(_enlarged(x, torch.Size(min(2 * old, new) for old, new in zip(x.shape[2:], finest, strict=True))))
        logits: Tensor = self.head(_enlarged(x, torch.Size(finest)))
        return logits

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        """The levels' feature maps, coarsest first."""
        found: dict[str, Tensor] = {}

        def record(layer: str, output: Tensor) -> Tensor:
            found[layer] = output
            # The backbone continues with a copy: an in-place ReLU would overwrite the map.
            return output.clone()

        layers = dict(self.backbone.named_modules())
        handles = [
            layers[level.layer].register_forward_hook(lambda _, __, output, name=level.layer: record(name, output))
            for level in self.levels
        ]
        try:
            self.backbone(images)
        finally:
            for handle in handles:
                handle.remove()
        return [found[level.layer] for level in self.levels]


def feature_levels(backbone: nn.Module) -> list[Level]:
    """Find a backbone's feature maps, coarsest first: the last of each resolution of at most a quarter of the image's.

    The backbone runs once on a blank image.

    Raises:
        InputError: There is no feature map.
    """
    seen: dict[int, Level] = {}
    image_side = 0

    def start(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal image_side
        seen.clear()  # Discard the maps of an image size that failed.
        image_side = inputs[0].shape[-1]

    def note(name: str, output: object) -> None:
        # Square maps only: those with channels last, as in a Swin, do not suit the decoder.
        if isinstance(output, Tensor) and output.dim() == 4 and 1 < output.shape[2] == output.shape[3]:
            stride = round(image_side / output.shape[3])
            if FINEST <= stride <= _COARSEST:
                seen.pop(stride, None)
                seen[stride] = Level(name, output.shape[1], stride)

    handles = [backbone.register_forward_pre_hook(start)]
    for name, part in backbone.named_modules():
        if not isinstance(part, (nn.Identity, nn.Dropout)):  # These only pass on another layer's output.
            handles.append(part.register_forward_hook(lambda _, __, output, name=name: note(name, output)))
    try:
        blank_image_output(backbone, (224, 256, 64, 384, 299, 512))
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise InputError("no layer of the backbone gives a feature map (N, C, h, w): choose another backbone")
    return [seen[stride] for stride in sorted(seen, reverse=True)]


def _block(width: int) -> nn.Sequential:
    # Group norm, because batches are small.
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(8, width), nn.ReLU(inplace=True)
    )


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
