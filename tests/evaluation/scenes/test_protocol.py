"""The scenes' protocol distinguishes encoders that see objects from those that see backgrounds."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from castlit.evaluation import evaluate_scenes, linear_probe
from castlit.interop import open_backbone
from castlit.utils.validation import InputError

SETTINGS = {"train_count": 300, "test_count": 100}


def colours_under(mask_of):
    """Features: the mean colours under a mask; CAM: that mask."""

    def explain(images, masks):
        weight = mask_of(masks.float())
        features = [(images * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1)]
        features.append((images**2 * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1))
        return torch.cat(features, 1), functional.adaptive_avg_pool2d(weight, 8)[:, 0]

    return explain


def test_backbone_or_explain():
    backbone = open_backbone("random", "tiny_resnet")

    def explain(images, masks):
        return backbone(images).detach().mean((2, 3)), masks[:, 0].float()

    counts = {"train_count": 60, "test_count": 30}
    alone = evaluate_scenes(backbone=backbone, **counts)
    explained = evaluate_scenes(explain, **counts)
    assert {name for name in explained if name not in alone} == {name for name in explained if "pointing" in name}
    assert alone == {name: explained[name] for name in alone}
    assert len(alone) == 7
    with pytest.raises(InputError, match="evaluate_scenes needs explain or backbone"):
        evaluate_scenes()


def test_object_or_background():
    device = torch.device("cpu")
    on_object = evaluate_scenes(colours_under(lambda mask: mask), device, **SETTINGS)
    on_background = evaluate_scenes(colours_under(lambda mask: 1 - mask), device, **SETTINGS)
    assert on_object["object_information"] > 0.8
    assert on_background["object_information"] < 0.3
    assert on_background["linear/mixed_same"] > 0.9
    assert on_background["linear/mixed_rand"] < 0.3
    assert on_object["linear/mixed_rand"] > 0.8
    assert on_background["linear/background_gap"] > on_object["linear/background_gap"] + 0.3
    assert on_object["pointing/mixed_rand"] > 0.95
    assert on_background["pointing/mixed_rand"] < 0.05
    gap = on_object["linear/mixed_same"] - on_object["linear/mixed_rand"]
    assert on_object["linear/background_gap"] == pytest.approx(gap)


def test_linear_probe_messages():
    with pytest.raises(InputError, match=r"protocol\.train_count must be at least 2"):
        evaluate_scenes(backbone=nn.Identity(), train_count=1)
    features, labels = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
    for given, line in (
        ((features * np.nan, labels), "features are not finite"),
        ((features, labels * 0), "images of at least two classes; these 4 are of one"),
        ((features, labels, -1.0), "strength must be greater than 0"),
    ):
        with pytest.raises(InputError, match=line):
            linear_probe(*given)
