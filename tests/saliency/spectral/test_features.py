"""Features of cells: aligned with the image, unspoilt at the border, for every kind of network."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from castlit.data.datamodules.datasets import normalise
from castlit.nn import build_backbone
from castlit.saliency.spectral.features import CellFeatures
from castlit.saliency.spectral.predictor import SpectralPredictor
from castlit.saliency.spectral.settings import SpectralSettings
from castlit.utils.validation import InputError


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone("tiny_resnet").eval()


class Means(nn.Module):
    """Each cell of 8 × 8 px is its mean colour; pads nothing unless told."""

    def __init__(self, padding=0):
        super().__init__()
        self.pool = nn.Conv2d(3, 3, 8 + 2 * padding, 8, padding, groups=3, bias=False)
        nn.init.ones_(self.pool.weight)

    def forward(self, images):
        return self.pool(images)


@pytest.mark.parametrize(
    ("shape", "grid"), [((300, 400), (21, 28)), ((400, 300), (28, 21)), ((40, 40), (28, 28)), ((3, 900), (1, 28))]
)
def test_grid_has_the_aspect_ratio(network, shape, grid):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert CellFeatures(network)(image).shape == (128, *grid)


@pytest.mark.parametrize("padding", [0, 4])
def test_cells_lie_where_they_are_in_the_image(padding):
    image = np.zeros((64, 96, 3), np.uint8)
    image[16:24, 40:48] = 255
    found = CellFeatures(Means(padding), "pool", 96)(image)[0]
    assert found.shape == (8, 12)
    assert np.unravel_index(found.argmax(), found.shape) == (2, 5)


def test_border_is_like_the_middle(network):
    """A network that pads with zeros gives a blank image's border other features than its middle; here it does not."""
    blank = np.full((96, 96, 3), 90, np.uint8)
    found = CellFeatures(network, size=96)(blank)
    spread = np.abs(found - found[:, 6:7, 6:7]).max()
    with torch.no_grad():
        plain = network(normalise(torch.from_numpy(blank).permute(2, 0, 1)[None]))[0].numpy()
    assert spread < 1e-4
    assert np.abs(plain - plain[:, 6:7, 6:7]).max() > 100 * spread


def test_layers(network):
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert CellFeatures(network, "layer2", 64)(image).shape == (64, 8, 8)
    assert CellFeatures(network, "backbone.layer3", 64)(image).shape == (96, 8, 8)
    with pytest.raises(InputError, match=r"spectral\.layer=layr3: .*did you mean 'layer3'"):
        CellFeatures(network, "layr3")
    flat = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten())
    with pytest.raises(InputError, match=r"spectral\.layer=1: layer '1' gives \(1, .*\), not a feature map"):
        CellFeatures(flat, "1")


def test_sizes(network):
    with pytest.raises(InputError, match=r"spectral\.size=640: gives 6,400 cells of layer layer4, .* up to 4,096 do"):
        CellFeatures(network, size=640)
    assert CellFeatures(network, square=(32, 12)).entry == (96, True, 48), "at least 12 cells"
    assert CellFeatures(network, square=(200, 12)).entry == (200, True, 48)
    assert CellFeatures(network, size=40, square=(200, 12)).entry == (40, True, 48)


def test_vits():
    vit = build_backbone("timm/test_vit").eval()
    image = np.random.default_rng(2).integers(0, 256, (60, 120, 3)).astype(np.uint8)
    assert CellFeatures(vit)(image).shape[1:] == (14, 28), "tokens have no padding, and any grid"
    with pytest.raises(InputError, match=r"callbacks\.self_masks\.size=40: the encoder does not accept it"):
        CellFeatures(vit, size=40, key="callbacks.self_masks", square=(96, 12))


def test_modes_and_statistics_stay(network):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        CellFeatures(network)
        assert all(part.training for part in network.modules())
    finally:
        network.eval()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_predictor(network, blot):
    image, inside = blot((96, 128), (30, 40, 70, 90), (60, 140, 70), (200, 60, 50))
    predictor = SpectralPredictor(network, SpectralSettings(size=128))
    found = predictor(image)
    assert found.shape == (96, 128)
    cut = found > 0.5
    assert (cut & inside).sum() / (cut | inside).sum() > 0.7
    assert not predictor(np.full((50, 60, 3), 7, np.uint8)).any()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predictor))(image), found)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"method": "token_cut"}, "spectral.method must be one of border_cut, tokencut.*did you mean 'tokencut'"),
        ({"layer": ""}, "spectral.layer must be a layer's name"),
        ({"size": 8}, "spectral.size must be at least 16"),
        ({"sigma": 0}, "spectral.sigma must be greater than 0"),
        ({"colour": 1.5}, "spectral.colour must be at most 1"),
        ({"border": -1}, "spectral.border must be greater than 0"),
        ({"tau": 2}, "spectral.tau must be at most 1"),
        ({"seeds": 0}, "spectral.seeds must be at least 1"),
        ({"sigmas": 1}, "spectral.sigmas is no setting .did you mean 'sigma'"),
    ],
)
def test_invalid_settings(given, told):
    with pytest.raises(InputError, match=told):
        SpectralSettings.of(given)
