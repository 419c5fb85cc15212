"""attention.subtract=masked_keys: the running mean against a plain loop, and in a checkpoint."""

import pytest
import torch

from castlit.attention import AttentionLoss
from castlit.attention.mean_key import MEMORY, RunningMean


def batches(count=4):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        keys = torch.randn(6, 5, generator=generator, dtype=torch.float64)
        yield keys, (torch.rand(6, 1, 3, 3, generator=generator) > 0.8).byte()


def test_equals_loop():
    running, expected = RunningMean(), None
    assert running() is None
    for number, (keys, mask) in enumerate(batches(130), start=1):
        running.update(keys, mask)
        shown = [key for key, region in zip(keys, mask, strict=True) if region.any()]
        assert 0 < len(shown) <= 6
        new = sum(shown) / len(shown)
        past = 1 - 1 / number if number < 100 else MEMORY
        expected = new if expected is None else past * expected + (1 - past) * new
        assert torch.allclose(running(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("empty_at", [0, 2])
def test_batch_without_object_changes_nothing(empty_at):
    with_empty, without = RunningMean(), RunningMean()
    for number, (keys, mask) in enumerate(batches()):
        if number == empty_at:
            with_empty.update(keys + 1, torch.zeros_like(mask))
        with_empty.update(keys, mask)
        without.update(keys, mask)
    assert torch.equal(with_empty(), without())


def test_checkpoint():
    running, fresh = RunningMean(), RunningMean()
    for keys, mask in batches():
        running.update(keys.float(), mask)
    fresh.load_state_dict(running.state_dict())
    assert torch.equal(fresh(), running())
    fresh.load_state_dict(RunningMean().state_dict())
    assert fresh() is None, "from a checkpoint before the first step"


def test_keys_that_are_not_finite_do_not_count():
    with_them, without = RunningMean(), RunningMean()
    for keys, mask in batches():
        broken = torch.cat([keys, torch.full((2, 5), torch.nan), torch.full((1, 5), torch.inf)])
        with_them.update(broken, torch.cat([mask, torch.ones_like(mask[:2]), torch.zeros_like(mask[:1])]))
        without.update(keys, mask)
    torch.testing.assert_close(with_them(), without())
    before = with_them()
    with_them.update(torch.full((2, 5), torch.nan, dtype=torch.float64), torch.ones(2, 1, 3, 3))
    assert torch.equal(with_them(), before)


def test_evaluation_mode_changes_nothing():
    attention = AttentionLoss(target="evidence", subtract="masked_keys")
    keys, mask = next(batches(1))
    attention.eval().observe(keys, mask)
    assert attention.masked_key_mean() is None
    attention.train().observe(keys, mask)
    assert attention.masked_key_mean() is not None
