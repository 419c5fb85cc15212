"""Synchronised batch norms replace all plain ones; several ranks are tested with the module."""

import copy
import pickle

import pytest
import torch
from torch import nn

from castlit.nn import HeadNorm, build_backbone
from castlit.nn.sync_batchnorm import SyncBatchNorm, separate_batchnorm, synchronise_batchnorm

timm = pytest.importorskip("timm")


def test_timm_batchnorm_activation():
    network = build_backbone("timm/test_efficientnet").train()
    twin = copy.deepcopy(network)
    images = torch.randn(4, 3, 64, 64)
    wanted = twin(images)
    synchronise_batchnorm(network)
    assert any(isinstance(part, SyncBatchNorm) for part in network.modules())
    assert list(network.state_dict()) == list(twin.state_dict())
    for found in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network), network):
        assert torch.allclose(found(images), wanted, atol=1e-5)
    separate_batchnorm(network)
    assert not any(isinstance(part, SyncBatchNorm) for part in network.modules())
    for (name, found), tensor in zip(network.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.allclose(found, tensor, atol=1e-6), name
    assert torch.allclose(network.eval()(images), twin.eval()(images), atol=1e-5)


def test_network_without_batchnorm():
    network = build_backbone("timm/test_vit")
    before = list(network.modules())
    synchronise_batchnorm(network)
    assert list(network.modules()) == before
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in before)


def test_one_value_is_no_batch():
    """As torch's batch norms: the tracked variance would not be finite."""
    head = nn.Sequential(nn.Linear(3, 4), HeadNorm(4)).train()
    synchronise_batchnorm(head)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        head(torch.randn(1, 3))
    head(torch.randn(2, 3))
    assert head[1].running_var.isfinite().all()
    assert head.eval()(torch.randn(1, 3)).isfinite().all()
