"""What batches have to contain: one line for each that does not."""

import pytest
import torch

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import SimCLR
from castlit.utils.validation import InputError

IMAGES, MASKS = torch.randn(3, 3, 12, 16), torch.ones(3, 1, 12, 16)
BATCH = {"query": IMAGES, "key": IMAGES, "query_mask": MASKS, "key_mask": MASKS}


@pytest.fixture
def module(make_backbone):
    return CASTModule(SimCLR(make_backbone(), dim=4), AttentionLoss())


def without(name):
    return {other: part for other, part in BATCH.items() if other != name}


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        ([IMAGES, IMAGES], r"a training batch must be a dictionary with query, key, query_mask, key_mask; got list"),
        (without("key_mask"), r"a training batch must have .*; this one lacks key_mask$"),
        ({**BATCH, "query_mask": MASKS[:, 0]}, r"query_mask must be \(3, 1, H, W\), .*; got \(3, 12, 16\)"),
        ({**BATCH, "key_mask": MASKS[:2]}, r"key_mask must be \(3, 1, H, W\), .*; got \(2, 1, 12, 16\)"),
    ],
)
def test_training_batch(module, batch, line):
    with pytest.raises(InputError, match=line):
        module.losses(batch)


def test_without_attention_no_masks_are_needed(make_backbone):
    losses = CASTModule(SimCLR(make_backbone(), dim=4)).losses({"query": IMAGES, "key": IMAGES})
    assert losses["loss"].requires_grad


def test_validation_batch(module):
    with pytest.raises(InputError, match="a validation batch must have image, mask; this one lacks mask"):
        module.validation_step({"image": IMAGES}, 0)
    # Three masks without their dimension would be taken for the three colours of one mask.
    for masks in ({"masks": MASKS[:, 0]}, {"masks": MASKS, "key_images": IMAGES, "key_masks": MASKS[:, 0]}):
        with pytest.raises(InputError, match=r"masks must be \(3, 1, H, W\)"):
            module.eval().explain(IMAGES, **masks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_masks_of_any_type(module, dtype):
    """NumPy's masks are float64."""
    masks = (torch.rand(3, 1, 12, 16) > 0.4).to(dtype)
    given = {**BATCH, "query_mask": masks, "key_mask": masks}
    expected = module.losses({**BATCH, "query_mask": masks > 0, "key_mask": masks > 0})
    for name, value in module.losses(given).items():
        torch.testing.assert_close(value, expected[name])


def test_predictions_of_tuples(module):
    features = module.eval().predict_step((IMAGES, torch.arange(3)), 0)["features"]
    assert torch.equal(features, module(IMAGES))
