"""The predictor: a network's map, and what is done with it afterwards."""

import numpy as np
import pytest
from torch import nn

from castlit.saliency.algorithms.fusion import fused
from castlit.saliency.algorithms.refine import crf, sharpen
from castlit.saliency.deepusps.predictor import Predictor


class Left(nn.Module):
    """Finds the left half."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(nn.Conv2d(1, 1, 1).weight.detach())

    def forward(self, images):
        logits = images.new_full((len(images), 1, 12, 12), -4.0)
        logits[..., :6] = 4.0
        return logits


@pytest.fixture
def image(blot):
    """A block on the right."""
    return blot((48, 64), (40, 14, 56, 34), (60, 140, 70), (200, 60, 50), seed=0)[0]


@pytest.mark.parametrize(("weight", "refine"), [(0.5, False), (0.75, True), (1, False)])
def test_weight_of_fused(image, weight, refine):
    # Image and mirror image are averaged, so that this network is undecided everywhere.
    alone = Predictor(Left(), 48, refine=False)(image)
    assert np.allclose(alone, 0.5, atol=1e-3)
    average = np.asarray((1 - weight) * alone + weight * fused(image), np.float32)
    wanted = sharpen(crf(image, average) if refine else average)
    found = Predictor(Left(), 48, refine=refine, fused=weight)(image)
    assert np.array_equal(found, wanted)
    assert found[18:30, 44:52].mean() > 0.8 > 0.2 > found[:, :30].mean(), "the block that only fused sees"


def test_uniform_image():
    flat = np.full((40, 60, 3), 70, np.uint8)
    assert not Predictor(Left(), 48, fused=0.75)(flat).any()
