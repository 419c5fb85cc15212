"""untracked_batchnorm normalises by the batch and does not track it."""

import pytest
import torch
from torch import nn

from castlit.nn import tiny_resnet, untracked_batchnorm

LAYERS = [
    (nn.BatchNorm2d(3), (5, 3, 4, 6)),
    (nn.BatchNorm2d(3, momentum=None), (5, 3, 4, 6)),
    (nn.BatchNorm1d(3), (5, 3)),
    (nn.BatchNorm2d(3, track_running_stats=False), (5, 3, 4, 6)),
]


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(network, before):
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_equals_formula(layer, shape):
    layer = layer.double().train()
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.normal_()
        if layer.track_running_stats:
            layer.running_mean.fill_(40.0)
    before = state(layer)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 7
    with untracked_batchnorm(layer):
        found = layer(x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    view = [1, -1] + [1] * (x.dim() - 2)
    mean = x.mean(axes).view(view)
    variance = ((x - mean) ** 2).mean(axes).view(view)
    expected = (x - mean) / (variance + layer.eps).sqrt() * layer.weight.view(view) + layer.bias.view(view)
    assert torch.allclose(found, expected, rtol=1e-10)
    assert_same(layer, before)


def test_network_output_equals_training():
    network, images = tiny_resnet().train(), torch.randn(4, 3, 32, 32)
    before = state(network)
    with untracked_batchnorm(network):
        untracked = network(images)
    assert_same(network, before)
    assert torch.equal(untracked, network(images))
    counts = [buffer for name, buffer in network.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(count == 1 for count in counts), "tracking must be on after the context"


def test_tracking_restored_after_exception():
    network = tiny_resnet().train()
    with pytest.raises(RuntimeError), untracked_batchnorm(network):
        network(torch.randn(4, 2, 32, 32))
    assert all(part.track_running_stats for part in network.modules() if isinstance(part, nn.BatchNorm2d))
    network(torch.randn(4, 3, 32, 32))
    assert network.bn1.num_batches_tracked == 1


def test_evaluation_mode():
    network = tiny_resnet().train()
    network(torch.randn(4, 3, 32, 32) + 2)
    network.eval()
    images, before = torch.randn(4, 3, 32, 32), state(network)
    expected = network(images)
    with untracked_batchnorm(network):
        assert torch.equal(network(images), expected)
    assert_same(network, before)


def test_untracked_and_frozen_layers():
    network = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3).eval(), nn.BatchNorm2d(3))
    with untracked_batchnorm(network):
        assert [part.track_running_stats for part in network] == [False, True, False]
    assert [part.track_running_stats for part in network] == [False, True, True]


def test_contexts_nest():
    layer = nn.BatchNorm2d(3)
    with untracked_batchnorm(layer):
        with untracked_batchnorm(layer):
            layer(torch.randn(2, 3, 4, 4))
        layer(torch.randn(2, 3, 4, 4))
    assert layer.num_batches_tracked == 0
    assert layer.track_running_stats
