"""Networks for the attention tests, in float64, so that rounding cannot hide errors."""

import pytest
import torch

from castlit.nn import Encoder, build_backbone, feature_channels, linear_head, mlp_head


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def make_encoder():
    def make(backbone, dim=6, mlp=False):
        trunk = build_backbone(backbone)
        width = feature_channels(trunk)
        encoder = Encoder(trunk, mlp_head(width, 16, dim) if mlp else linear_head(width, dim)).double()
        # Random batch norm statistics: an untrained batch norm is the identity.
        for name, tensor in encoder.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
        return encoder.eval()

    return make
