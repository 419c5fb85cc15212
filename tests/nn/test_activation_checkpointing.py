"""Checkpointed blocks: outputs, gradients, statistics and random draws are equal; less is saved for backward."""

import copy

import pytest
import torch
from torch import nn

from castlit.attention import grad_cam, tap
from castlit.nn import tiny_resnet
from castlit.nn.activation_checkpointing import CheckpointedBlock
from castlit.nn.backbones import ResidualBlock
from castlit.nn.forward_patch import blocks_before


def pair(network):
    """A network with all its blocks checkpointed, and its plain copy."""
    network, twin = network.train(), copy.deepcopy(network).train()
    blocks = blocks_before(network, network)
    assert blocks
    for block in blocks:
        CheckpointedBlock(block).apply()
    return network, twin


def trained_on(network, batches, dtype=None):
    """Outputs of all batches, then one backward pass through all, as for query and key."""
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        outputs = [network(batch) for batch in batches]
    torch.rand(3)  # Random draws between the passes must not change those within.
    sum((output.float() if dtype else output).square().mean() for output in outputs).backward()
    return outputs


def assert_same(network, twin):
    for name, parameter in twin.named_parameters():
        assert torch.equal(network.get_parameter(name).grad, parameter.grad), name
    assert list(network.state_dict()) == list(twin.state_dict())
    for name, tensor in twin.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_outputs_gradients_and_statistics(momentum, dtype):
    torch.manual_seed(0)
    plain = tiny_resnet()
    for part in plain.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = momentum
    network, twin = pair(plain if dtype else plain.double())
    batches = torch.randn(2, 4, 3, 32, 32, dtype=torch.float32 if dtype else torch.float64)
    for found, wanted in zip(trained_on(network, batches, dtype), trained_on(twin, batches, dtype), strict=True):
        assert torch.equal(found, wanted)
    assert_same(network, twin)
    counts = {int(tensor) for name, tensor in network.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {2}, "each pass counts once"


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 3, 1), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.conv(x))


def test_draws_are_repeated():
    network, twin = pair(nn.Sequential(Noisy(), Noisy()))
    images = torch.randn(1, 4, 3, 8, 8)
    (found,), (wanted,) = trained_on(network, images), trained_on(twin, images)
    assert torch.equal(found, wanted)
    assert (found == 0).any()
    assert_same(network, twin)


def calls_of(network):
    calls = []
    for block in blocks_before(network, network):
        block.conv1.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_number_of_forward_passes():
    network, _ = pair(tiny_resnet())
    calls = calls_of(network)
    with torch.no_grad():
        network(torch.randn(2, 3, 32, 32))
    assert len(calls) == 4
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert len(calls) == 4 + 8


def kept_bytes(run):
    total = 0

    def pack(tensor):
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return total


def test_saves_less_for_backward():
    network, twin = pair(nn.Sequential(*[nn.Sequential(ResidualBlock(8, 8, 1)) for _ in range(6)]))
    images = torch.randn(4, 8, 16, 16, requires_grad=True)
    kept, kept_plainly = kept_bytes(lambda: network(images)), kept_bytes(lambda: twin(images))
    assert kept == 6 * images.numel() * 4, "the input of each block, and nothing else"
    assert kept_plainly > 4 * kept


@pytest.mark.parametrize("layer", ["layer4", "layer4.0", "layer3", "layer3.0"])
def test_cam_behind_checkpointed_blocks(layer):
    """Second order behind the tapped layer, first order before it; the tap records once."""
    torch.manual_seed(0)
    network = tiny_resnet().double().train()
    twin = copy.deepcopy(network)
    for block in blocks_before(network, network.get_submodule(layer)):
        CheckpointedBlock(block).apply()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for part in (network, twin):
        with tap(part, layer) as activations:
            embedding = part(images).mean((2, 3)).tanh()
        cam = grad_cam(embedding.pow(3).sum(1), activations)
        (cam.square().mean() + embedding.sum()).backward()
        assert len(activations) == 1, "neither the CAM nor the backward pass runs the layer's hook again"
        assert activations.first.requires_grad
    assert_same(network, twin)


def test_statistics_restored_after_error():
    network, twin = pair(tiny_resnet())
    output = network(torch.randn(2, 3, 32, 32)).sum()
    twin.load_state_dict(network.state_dict())
    network.layer1[0].conv2.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        output.backward()
    for name, tensor in twin.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
