"""batch_statistics: batch norm as in training, also in evaluation mode, without tracking."""

import pytest
import torch
from torch import nn

from castlit.nn import batch_statistics, fresh_norms, lacks_statistics, tiny_resnet, untracked_batchnorm
from castlit.nn.sync_batchnorm import synchronise_batchnorm


@pytest.fixture(params=[True, False], ids=["training", "evaluation"])
def network(request):
    network = tiny_resnet().train()
    network(torch.randn(4, 3, 32, 32) + 2)
    return network.train(request.param)


def test_batch_statistics_are_not_tracked(network):
    images = torch.randn(4, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    with batch_statistics(network, 4):
        found = network(images)
    assert [part.training for part in network.modules()] == modes
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    network.train()
    with untracked_batchnorm(network):
        assert torch.equal(found, network(images))


def test_restored_after_exception(network):
    modes = [part.training for part in network.modules()]
    with pytest.raises(RuntimeError), batch_statistics(network, 4):
        network(torch.randn(4, 2, 32, 32))
    assert [part.training for part in network.modules()] == modes
    assert all(part.track_running_stats for part in network.modules() if isinstance(part, nn.BatchNorm2d))


def test_contexts_nest(network):
    images = torch.randn(4, 3, 32, 32)
    count = int(network.bn1.num_batches_tracked)
    with batch_statistics(network, 4):
        expected = network(images)
        with batch_statistics(network, 4), untracked_batchnorm(network):
            assert torch.equal(network(images), expected)
        assert torch.equal(network(images), expected)
    assert network.bn1.num_batches_tracked == count


def test_fresh_norms_alone(network):
    """A new head on a trained backbone: the backbone's statistics stay in use."""
    whole = nn.Sequential(network, nn.Conv2d(128, 4, 1), nn.BatchNorm2d(4)).eval()
    images = torch.randn(4, 3, 32, 32)
    features = network(images)
    norms = fresh_norms(whole)
    assert norms == [whole[2]]
    assert lacks_statistics(whole)
    assert not lacks_statistics(network)
    with batch_statistics(whole, 4, norms):
        found = whole(images)
    projected = whole[1](features)
    variance, mean = torch.var_mean(projected, (0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(found, (projected - mean) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize("synchronised", [False, True])
def test_single_image_with_batchnorm1d(synchronised):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5))
    network.eval()
    if synchronised:
        synchronise_batchnorm(network)
    with batch_statistics(network, 1):
        found = network(torch.randn(1, 3, 2, 2))
        assert [part.training for part in network if isinstance(part, nn.modules.batchnorm._BatchNorm)] == [True, False]
    assert torch.isfinite(found).all()
    assert not any(part.training for part in network)
