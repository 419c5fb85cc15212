"""A light segmentation network: any backbone of castlit's, and a small decoder on top."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.nn import build_backbone
from castlit.nn.output_shape import dry_run
from castlit.utils.validation import InputError

FINEST = 4
"""Pixels of the input, each way, for one of the logit map."""

_COARSEST = 64


class Level(NamedTuple):
    """A feature map inside a backbone."""

    layer: str
    """Name of the layer that gives it; empty for the backbone itself."""
    channels: int
    stride: int
    """Pixels of the input for one of the map."""


class SaliencyNetwork(nn.Module):
    """Maps images to one logit for each place: the more, the more salient.

    The decoder goes from the backbone's coarsest feature map to its finest, as feature pyramids do (Lin et al., Feature
    Pyramid Networks, CVPR 2017), from the mean over the whole image on: what stands out does so against the rest.

    Args:
        backbone: See :func:`castlit.nn.build_backbone`.
        width: Channels of the decoder, a multiple of 8.

    Raises:
        InputError: No such backbone, or it gives no feature maps.
    """

    def __init__(self, backbone: str | nn.Module = "tiny_resnet", width: int = 64) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.levels = feature_levels(self.backbone)
        self.laterals = nn.ModuleList(nn.Conv2d(level.channels, width, 1) for level in self.levels)
        self.context = nn.Conv2d(self.levels[0].channels, width, 1)
        # Where the backbone's finest map is coarser than the output, it is enlarged step by step.
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
            # The backbone goes on with a copy, which an in-place ReLU may overwrite.
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
    """Find the feature maps of a backbone, one of each resolution from a quarter of the image's on, coarsest first.

    Of several maps of one resolution it is the last. The backbone runs once on a blank image.

    Raises:
        InputError: There is none.
    """
    seen: dict[int, Level] = {}
    image_side = 0

    def start(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal image_side
        seen.clear()  # An attempt at a size that fails leaves nothing behind.
        image_side = inputs[0].shape[-1]

    def note(name: str, output: object) -> None:
        # Maps with channels last, as inside a Swin, are none for the decoder; they are not square.
        if isinstance(output, Tensor) and output.dim() == 4 and 1 < output.shape[2] == output.shape[3]:
            stride = round(image_side / output.shape[3])
            if FINEST <= stride <= _COARSEST:
                seen.pop(stride, None)
                seen[stride] = Level(name, output.shape[1], stride)

    handles = [backbone.register_forward_pre_hook(start)]
    for name, part in backbone.named_modules():
        if not isinstance(part, (nn.Identity, nn.Dropout)):  # These pass on what others made.
            handles.append(part.register_forward_hook(lambda _, __, output, name=name: note(name, output)))
    try:
        dry_run(backbone, (224, 256, 64, 384, 299, 512))
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise InputError("no layer of the backbone gives a feature map (N, C, h, w): take another backbone")
    return [seen[stride] for stride in sorted(seen, reverse=True)]


def _block(width: int) -> nn.Sequential:
    # Group norm: decoders are trained in small batches.
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(8, width), nn.ReLU(inplace=True)
    )


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
