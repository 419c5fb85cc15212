"""attention.key: the passes and the embedding of each choice, and the masking of images."""

import pytest
import torch

from castlit.attention import AttentionLoss
from castlit.attention.keys import KEYS, apply_mask
from castlit.methods import MoCo
from castlit.utils.validation import InputError


@pytest.fixture
def batch():
    query, key = torch.randn(2, 4, 3, 32, 32)
    mask = torch.zeros(4, 1, 32, 32, dtype=torch.uint8)
    mask[:, :, :16, 8:] = 1
    return query, key, mask


@pytest.mark.parametrize(("name", "passes"), [("masked_image", 2), ("masked_features", 1), ("plain", 1)])
def test_step_and_embed_agree(batch, name, passes):
    query, image, mask = batch
    method = MoCo("tiny_resnet", dim=6, queue_size=8).train()
    key, seen = KEYS[AttentionLoss(key=name).key], []
    key.check(method)
    region = key.region(mask)
    assert torch.equal(region, torch.ones_like(mask) if name == "plain" else mask)
    method.momentum_encoder.backbone.register_forward_hook(lambda *_: seen.append(1))
    output, masked_key = key.step(method, query, image, region)
    assert len(seen) == passes
    assert output.loss.requires_grad
    assert not masked_key.requires_grad
    assert torch.allclose(masked_key, key.embed(method, image, region), atol=1e-5)


def test_masked_features_need_the_method():
    for name in ("masked_features", "plain"):
        with pytest.raises(InputError, match=r"Linear gives no masked features .*attention\.key=masked_image"):
            KEYS[name].check(torch.nn.Linear(2, 2))
    KEYS["masked_image"].check(torch.nn.Linear(2, 2))


def test_invalid_key():
    with pytest.raises(InputError, match=r"attention\.key must be one of masked_image, masked_features, plain"):
        AttentionLoss(key="masked")


def test_apply_mask():
    images = torch.randn(2, 3, 4, 4)
    for value in (1, 255):
        mask = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
        mask[:, :, :2] = value
        assert torch.equal(apply_mask(images, mask)[:, :, :2], images[:, :, :2])
        assert (apply_mask(images, mask)[:, :, 2:] == 0).all()
        assert torch.equal(apply_mask(images, mask > 0), apply_mask(images, mask))
    assert torch.equal(apply_mask(images, torch.full((2, 1, 4, 4), 0.5)), images / 2)
