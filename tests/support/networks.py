"""A network small enough to check by hand."""

from collections import OrderedDict

from torch import nn


def two_convolutions(channels=6):
    """Two convolutions, of which the second is layer4; a map of 6 channels, or another number."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 5, 3, stride=2, bias=False),
            bn1=nn.BatchNorm2d(5),
            relu=nn.ReLU(),
            layer4=nn.Sequential(nn.Conv2d(5, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
        )
    )
