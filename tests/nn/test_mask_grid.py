"""What mask values of each type count, everywhere that masks are used."""

import pytest
import torch

from castlit.attention import attention_loss, reference_attention_loss
from castlit.attention.keys import apply_mask
from castlit.nn.encoder import masked_mean
from castlit.nn.mask_grid import mask_grid, mask_weights

MAPS, CAM = torch.rand(2, 5, 4, 4), torch.rand(2, 4, 4)
USES = {
    "attention_loss": lambda mask: attention_loss(CAM, mask),
    "reference_attention_loss": lambda mask: reference_attention_loss(CAM, mask),
    "masked_mean": lambda mask: masked_mean(MAPS, mask),
    "apply_mask": lambda mask: apply_mask(torch.ones(2, 3, 17, 20), mask),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_numbers_of_objects_and_255_are_the_same_as_booleans(use, dtype):
    objects = torch.randint(0, 4, (2, 1, 17, 20), generator=torch.Generator().manual_seed(0))
    expected = use(objects > 0)
    for numbers in (objects, 255 * (objects > 0)):
        assert torch.equal(use(numbers.to(dtype)), expected)


def test_fractions_are_weights():
    fractions = torch.rand(2, 1, 8, 8)
    assert torch.equal(mask_weights(fractions, torch.float32), fractions)
    means = fractions.view(2, 1, 4, 2, 4, 2).mean((3, 5))
    assert torch.allclose(mask_grid(fractions, (4, 4), torch.float32), means)
