"""The detectors' trunks and heads; coordinates and probabilities are float32 under mixed precision."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from castlit.utils.dtype import without_autocast


class TrunkC4(nn.Module):
    """A ResNet up to ``layer3``: one feature map.

    Args:
        body: Maps images to that feature map.
        channels: Its channels.
    """

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.out_channels = body, channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Map images (N, 3, H, W) to ``{"0": (N, channels, h, w)}``."""
        return OrderedDict({"0": self.body(images)})


class PyramidTrunk(nn.Module):
    """A ResNet with a feature pyramid (Lin et al., 2017), with batch norm in the pyramid too.

    Args:
        body: The ResNet; has the children ``layers``.
        layers: Children whose outputs the pyramid is built on.
        channels: Channels of those outputs.
        out_channels: Channels of all levels of the pyramid.
    """

    def __init__(
        self, body: nn.Sequential, layers: tuple[str, ...], channels: tuple[int, ...], out_channels: int = 256
    ) -> None:
        super().__init__()
        self.body, self.layers, self.out_channels = body, layers, out_channels
        self.fpn = FeaturePyramidNetwork(
            list(channels), out_channels, extra_blocks=LastLevelMaxPool(), norm_layer=nn.BatchNorm2d
        )

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Map images (N, 3, H, W) to the levels ``"0"`` (the finest) … ``"3"``, and ``"pool"`` for the RPN alone."""
        features, taken = images, OrderedDict[str, Tensor]()
        for name, part in self.body.named_children():
            features = part(features)
            if name in self.layers:
                taken[str(len(taken))] = features
        levels: OrderedDict[str, Tensor] = self.fpn(taken)
        return levels


class Res5Head(nn.Module):
    """``layer4`` on the pooled map of each box, an extra norm, and the mean (He et al., CVPR 2020, appendix).

    With the norm, a self-supervised network can be fine-tuned with the schedule of a supervised one.

    Args:
        layer4: The ResNet's last stage.
        channels: Channels of its output.
    """

    def __init__(self, layer4: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer4, self.norm = layer4, nn.BatchNorm2d(channels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map (M, C, side, side) to (M, channels)."""
        features: Tensor = self.norm(self.layer4(pooled))
        return features.mean((2, 3))


class ExactRPNHead(RPNHead):  # type: ignore[misc]
    """torchvision's ``RPNHead`` with float32 outputs."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map feature maps to logits and box deltas for each."""
        hidden = [self.conv(features) for features in x]
        with without_autocast(x[0].device):
            return [self.cls_logits(h.float()) for h in hidden], [self.bbox_pred(h.float()) for h in hidden]


class ExactPredictor(FastRCNNPredictor):  # type: ignore[misc]
    """torchvision's ``FastRCNNPredictor`` with float32 outputs and the papers' small initial weights.

    Args:
        channels: Channels of its input.
        classes: Number of classes without the background.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes + 1)
        for layer, spread in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (M, channels) to logits (M, classes + 1) and box deltas (M, 4 · (classes + 1))."""
        with without_autocast(x.device):
            logits, deltas = super().forward(x.float())
            return logits, deltas
