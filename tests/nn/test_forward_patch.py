"""The blocks of a network before a layer, and applying and removing a patch."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from castlit.nn import build_backbone
from castlit.nn.forward_patch import ForwardPatch, blocks_before

RESNET = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]


@pytest.mark.parametrize(
    ("backbone", "layer", "wanted"),
    [
        ("resnet18", "layer4", RESNET),
        ("resnet18", "", RESNET),
        ("resnet18", "layer3", RESNET[:6]),
        ("resnet18", "layer4.0", RESNET[:7]),
        ("resnet18", "layer4.1.conv2", RESNET[:7]),
        ("resnet18", "layer3.0.downsample", [*RESNET[:4], "layer3.0.downsample"]),
        ("resnet18", "conv1", []),
        ("tiny_resnet", "layer2", ["layer1.0", "layer2.0"]),
        ("convnext_tiny", "features.1", ["features.0", "features.1.0", "features.1.1", "features.1.2"]),
        ("densenet121", "features.transition1", ["features.denseblock1", "features.transition1"]),
    ],
)
def test_blocks(backbone, layer, wanted):
    network = build_backbone(backbone)
    names = {part: name for name, part in network.named_modules()}
    assert [names[block] for block in blocks_before(network, network.get_submodule(layer))] == wanted


class Own(nn.Module):
    """A network that is no nn.Sequential."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.stages = nn.ModuleList(nn.Sequential(OrderedDict(a=nn.Conv2d(4, 4, 1), b=nn.ReLU())) for _ in range(3))
        self.last = nn.Sequential(nn.Conv2d(4, 4, 1))


def test_custom_network_blocks():
    network = Own()
    names = {part: name for name, part in network.named_modules()}
    found = [names[block] for block in blocks_before(network, network.stages[1])]
    assert found == ["stages.0", "stages.1"]
    assert [names[block] for block in blocks_before(network, network.last)] == [f"stages.{i}" for i in range(3)] + [
        "last"
    ]


def test_layer_outside_network():
    network = build_backbone("tiny_resnet")
    assert len(blocks_before(network, nn.Identity())) == 4


class Doubled(ForwardPatch):
    def __call__(self, *inputs):
        return 2 * super().__call__(*inputs)


def test_apply_and_remove():
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    plain, names = layer(x), list(layer.state_dict())
    first, second = Doubled(layer), None
    first.apply()
    second = Doubled(layer)
    second.apply()
    assert torch.equal(layer(x), 4 * plain)
    assert list(layer.state_dict()) == names
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    assert torch.equal(twin(x), 4 * plain), "a copy uses its own weights"
    second.remove()
    first.remove()
    assert "forward" not in vars(layer)


def test_hooks_get_patched_output():
    layer, x, seen = nn.Linear(3, 2), torch.randn(4, 3), []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    Doubled(layer).apply()
    output = layer(x)
    assert len(seen) == 1
    assert seen[0] is output
