"""Backbones: networks from images to a feature map, with the parameter names of their origin."""

from collections import OrderedDict
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from castlit.nn.checks import InputError, did_you_mean

# What torchvision's classifiers put behind the last feature map.
_CLASSIFIER_PARTS = ("avgpool", "flatten", "fc", "classifier", "head")


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch norm and a shortcut (He et al., 2016, figure 5 left).

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Step of the first convolution, 1 or 2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        output: Tensor = self.relu(x + shortcut)
        return output


def tiny_resnet() -> nn.Sequential:
    """Build the small residual network of the built-in scenes: 64-px images to an 8 × 8 map, for two CPU cores.

    Its stages carry torchvision's names (``layer1`` … ``layer4``), so that ``attention.layer=layer4`` means the
    last feature map here too.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, 2, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            # Small maps early: on a CPU, wide layers on few positions cost less than narrow ones on many.
            layer1=nn.Sequential(ResidualBlock(16, 32, 2)),
            layer2=nn.Sequential(ResidualBlock(32, 64, 2)),
            layer3=nn.Sequential(ResidualBlock(64, 96, 1)),
            layer4=nn.Sequential(ResidualBlock(96, 128, 1)),
        )
    )


# Our own backbones; every other name is torchvision's.
_OWN: dict[str, Callable[[], nn.Module]] = {"tiny_resnet": tiny_resnet}


def build_backbone(backbone: str | nn.Module) -> nn.Module:
    """Return a network that maps images (N, 3, H, W) to a feature map (N, C, h, w).

    Args:
        backbone: ``"tiny_resnet"``, the name of a torchvision classifier (``"resnet50"``, ``"convnext_tiny"``), whose
            classifier is then left off and whose parameter names stay; or a network of your own, used as it is.

    Raises:
        InputError: No such backbone, or its output cannot be a feature map.
    """
    if isinstance(backbone, nn.Module):
        return backbone
    if backbone in _OWN:
        return _OWN[backbone]()
    names = [*_OWN, *torchvision.models.list_models(module=torchvision.models)]
    if backbone not in names:
        raise InputError(
            f"backbone {backbone!r} is not known{did_you_mean(backbone, names)}: "
            "give 'tiny_resnet' or the name of a torchvision model such as resnet50"
        )
    network = torchvision.models.get_model(backbone, weights=None)
    # These models are a plain chain of children up to the classifier: a Sequential of the rest computes the same.
    trunk = OrderedDict((name, part) for name, part in network.named_children() if name not in _CLASSIFIER_PARTS)
    if isinstance(network, torchvision.models.DenseNet):
        trunk["relu"] = nn.ReLU()  # The one that lives in its forward().
    return nn.Sequential(trunk)


def feature_channels(backbone: nn.Module) -> int:
    """Return the number of channels C of a backbone's feature map, by asking it.

    Raises:
        InputError: The output for a (1, 3, 64, 64) image is not (1, C, h, w).
    """
    training = [part for part in backbone.modules() if part.training]
    parameter = next(backbone.parameters(), torch.zeros(1))
    backbone.eval()
    try:
        with torch.no_grad():
            output = backbone(torch.zeros(1, 3, 64, 64, device=parameter.device, dtype=parameter.dtype))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the backbone cannot take a (1, 3, 64, 64) image: {reason}") from error
    finally:
        # One by one: parts that their owner keeps frozen stay so.
        for part in training:
            part.training = True
    if not isinstance(output, Tensor) or output.dim() != 4:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"the backbone must give a feature map (N, C, h, w), but gave {shape}: leave its classifier off"
        )
    return output.shape[1]
