"""Lightning's DDP on two processes (gloo): after some steps both ranks have the same weights and queue."""

from pathlib import Path

import pytest
import torch

QUEUES = {
    "moco": ["queue"],
    "moco unshuffled": ["queue"],
    "moco in bf16": ["queue"],
    "moco with masked features": ["queue"],
    "densecl": ["queue", "dense_queue"],
    "densecl with masked features": ["queue", "dense_queue"],
}
RUNS = [*QUEUES, "simclr", "simclr with evidence", "byol", "simsiam", "mocov3", "vicreg"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, run_two_ranks):
    """The final state of both ranks, see two_ranks.py."""
    folder = tmp_path_factory.mktemp("two_ranks")
    script = Path(__file__).with_name("two_ranks.py")
    return run_two_ranks(script, folder)


@pytest.mark.parametrize("name", RUNS)
def test_ranks_are_equal(ranks, name):
    first, second = (found[name] for found in ranks)
    # 24 images, 4 per rank and step: 3 steps per epoch. DDP raises at the second step if a weight has no gradient.
    assert first["steps"] == second["steps"] == 9
    assert first["moved"] > 1e-3
    for part in ("weights", "queue"):
        assert list(first[part]) == list(second[part])
        for key, tensor in first[part].items():
            assert torch.equal(tensor, second[part][key]), key
            assert torch.isfinite(tensor).all(), key


def test_mean_key_is_equal_on_both_ranks(ranks):
    mean = ranks[0]["simclr with evidence"]["queue"]["attention.masked_key_mean.mean"]
    assert mean.shape == (8,)
    assert 0 < mean.norm() <= 1


@pytest.mark.parametrize(("name", "queue"), [(name, queue) for name, queues in QUEUES.items() for queue in queues])
def test_queue_has_keys_of_both_ranks(ranks, name, queue):
    found = ranks[0][name]["queue"]
    assert int(found[f"{queue}.pointer"]) == 9 * 8 % 15
    keys = found[f"{queue}.keys"]
    assert torch.allclose(keys.norm(dim=1), torch.ones(15), atol=1e-5)
    assert len(keys.unique(dim=0)) == 15, "no key twice: each rank enqueued its own"
