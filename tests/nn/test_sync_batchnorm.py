"""Synchronised batch norms replace all plain ones; several ranks are tested with the module."""

import copy
import pickle

import pytest
import torch
from torch import nn

from castlit.nn import build_backbone
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
