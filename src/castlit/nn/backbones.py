"""Backbones: networks from images to a feature map, with torchvision's or timm's parameter names."""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from castlit.nn.output_shape import blank_image_output
from castlit.nn.timm_backbones import PREFIX, build_timm
from castlit.nn.torchvision_backbones import build_torchvision, torchvision_names
from castlit.utils.validation import InputError, did_you_mean


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch norm and a shortcut (He et al., 2016, figure 5 left).

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Stride of the first convolution, 1 or 2.
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

    Its stages have torchvision's names (``layer1`` … ``layer4``), so ``attention.layer=layer4`` is the last feature map
    here, too.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, 2, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            # Small maps early: on a CPU, wide layers on few positions are faster than narrow ones on many.
            layer1=nn.Sequential(ResidualBlock(16, 32, 2)),
            layer2=nn.Sequential(ResidualBlock(32, 64, 2)),
            layer3=nn.Sequential(ResidualBlock(64, 96, 1)),
            layer4=nn.Sequential(ResidualBlock(96, 128, 1)),
        )
    )


# castlit's own backbones; every other name is timm's, with its prefix, or torchvision's.
_OWN: dict[str, Callable[[], nn.Module]] = {"tiny_resnet": tiny_resnet}


def build_backbone(backbone: str | nn.Module) -> nn.Module:
    """Return a network that maps images (N, 3, H, W) to a feature map (N, C, h, w).

    Args:
        backbone: ``"tiny_resnet"``; the name of a torchvision classifier (``"resnet50"``, ``"vit_b_16"``), see
            :func:`castlit.nn.torchvision_backbones.build_torchvision`; ``"timm/"`` and the name of a model of timm
            (``"timm/convnext_tiny"``), see :func:`castlit.nn.timm_backbones.build_timm`; or a network of your own,
            used as it is. Classifiers are removed, parameter names stay, and no weights are downloaded.

    Raises:
        InputError: No such backbone, or its output cannot be a feature map.
    """
    if isinstance(backbone, nn.Module):
        return backbone
    if not isinstance(backbone, str):
        raise InputError(f"backbone must be a name, or a network, got {backbone!r}")
    if backbone in _OWN:
        return _OWN[backbone]()
    if backbone.startswith(PREFIX):
        return build_timm(backbone)
    names = [*_OWN, *torchvision_names()]
    if backbone not in names:
        raise InputError(
            f"backbone {backbone!r} is not known{did_you_mean(backbone, names)}: give 'tiny_resnet', the name of a "
            "torchvision model such as resnet50, or timm/ and the name of a timm model"
        )
    return build_torchvision(backbone)


def feature_channels(backbone: nn.Module) -> int:
    """Return the number of channels C of a backbone's feature map, by running it on a blank image.

    Raises:
        InputError: The output for an image (1, 3, size, size) is not (1, C, h, w).
    """
    output = blank_image_output(backbone)
    if not isinstance(output, Tensor) or output.dim() != 4:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"the backbone must give a feature map (N, C, h, w), but gave {shape}: leave its classifier off"
        )
    return output.shape[1]
