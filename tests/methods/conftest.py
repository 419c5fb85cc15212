"""Methods on a small network, in float64."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from castlit.methods import BYOL, DenseCL, MoCo, MoCoV3, SimCLR, SimSiam, VICReg


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def small_backbone():
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 5, 3, stride=2),
            bn1=nn.BatchNorm2d(5),
            relu=nn.ReLU(),
            layer4=nn.Sequential(nn.Conv2d(5, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        )
    )


MAKERS = {
    "moco v2": lambda **options: MoCo(small_backbone(), **{"dim": 4, "queue_size": 15, "momentum": 0.9, **options}),
    "moco v1": lambda **options: MoCo(
        small_backbone(), **{"dim": 4, "queue_size": 15, "mlp": False, "temperature": 0.07, **options}
    ),
    "simclr": lambda **options: SimCLR(small_backbone(), **{"dim": 4, **options}),
    "byol": lambda **options: BYOL(small_backbone(), **{"dim": 4, "hidden": 7, **options}),
    "simsiam": lambda **options: SimSiam(small_backbone(), **{"dim": 8, "hidden": 5, **options}),
    "moco v3": lambda **options: MoCoV3(small_backbone(), **{"dim": 4, "hidden": 7, **options}),
    "densecl": lambda **options: DenseCL(small_backbone(), **{"dim": 4, "queue_size": 15, **options}),
    "vicreg": lambda **options: VICReg(small_backbone(), **{"dim": 4, "hidden": 7, **options}),
}


@pytest.fixture
def make_method():
    def make(name, **options):
        method = MAKERS[name](**options).double().train()
        if hasattr(method, "momentum_encoder"):
            # Different from the encoder, so that a test can distinguish the two.
            with torch.no_grad():
                for parameter in method.momentum_encoder.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return method

    return make


@pytest.fixture
def views():
    """Query and key images of any number."""
    return lambda count=5: tuple(torch.randn(2, count, 3, 12, 15, dtype=torch.float64))
