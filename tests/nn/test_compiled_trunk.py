"""The parts of a network to compile, in evaluation mode and in copies."""

import copy
import pickle

import pytest
import torch
from torch import nn

from castlit.nn import build_backbone, tiny_resnet
from castlit.nn.compiled_trunk import CompiledPart, parts_before
from castlit.utils.validation import InputError


class Own(nn.Module):
    """A network that is no nn.Sequential."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.early = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())

    def forward(self, x):
        return self.late(self.early(self.stem(x)))


@pytest.mark.parametrize(
    ("network", "layer", "wanted"),
    [
        # Names of parts, and the number of their first children; None for the full part.
        ("resnet18", "layer4", [("", 7), ("layer4", None)]),
        ("resnet18", "layer3", [("", 6), ("layer3", None)]),
        ("resnet18", "", [("", None)]),
        ("resnet18", "layer3.1", [("", 6), ("layer3", 1), ("layer3.1", None)]),
        ("resnet18", "layer3.0", [("", 6), ("layer3.0", None)]),
        ("resnet18", "layer3.1.conv2", [("", 6), ("layer3", 1)]),
        ("resnet18", "conv1", []),
        ("own", "late", [("early", None), ("late", None)]),
    ],
)
def test_parts_before(network, layer, wanted):
    network = Own() if network == "own" else build_backbone(network)
    names = {part: name for name, part in network.named_modules()}
    found = parts_before(network, network.get_submodule(layer))
    assert [(names[part.module], None if part._first is None else len(part._first)) for part in found] == wanted


def test_layer_outside_network():
    network = tiny_resnet()
    (part,) = parts_before(network, nn.Identity())
    assert part.module is network


def test_evaluation_is_not_compiled():
    network = tiny_resnet().eval()
    images = torch.randn(2, 3, 32, 32)
    wanted = network(images)
    parts = parts_before(network, network.layer4)
    for part in parts:
        part.apply()
    assert torch.equal(network(images), wanted)
    assert all(part._compiled is None for part in parts)


def test_copies_are_not_compiled():
    network = tiny_resnet()
    part = CompiledPart(network)
    part.apply()
    part._compiled = torch.compile(network.layer1)
    twin = copy.deepcopy(network)
    assert vars(twin)["forward"].module is twin
    assert vars(twin)["forward"]._compiled is None
    part.remove()
    pickle.dumps(network)


def test_no_compiler(monkeypatch, tmp_path):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(config, "fx_graph_cache", False)
    monkeypatch.setattr(config, "compile_threads", 1)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    part = CompiledPart(nn.ReLU())
    with pytest.raises(InputError, match=r"^compile=true does not work on this machine \(.*or set compile=false$"):
        part(torch.ones(3))
