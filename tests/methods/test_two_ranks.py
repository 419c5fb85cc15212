"""Two processes (gloo) with N images each compute what one process with 2 N does, in every method."""

from pathlib import Path

import pytest
import torch

NAMES = [
    "moco",
    "simclr",
    "byol",
    "simsiam",
    "moco v3",
    "densecl",
    "densecl unshuffled",
    "vicreg, narrow",
    "vicreg, wide",
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, run_two_ranks):
    """The results of both ranks, see two_ranks.py."""
    return run_two_ranks(Path(__file__).with_name("two_ranks.py"), tmp_path_factory.mktemp("two_ranks"))


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_equal_one_batch(ranks, name):
    whole = ranks[0][name]["whole"]
    halves = [found[name]["half"] for found in ranks]
    mean = sum(half["loss"] for half in halves) / 2
    assert torch.allclose(mean, whole["loss"], rtol=1e-10)
    assert list(halves[0]["gradients"]) == list(whole["gradients"])
    for path, gradient in whole["gradients"].items():
        for half in halves:
            assert torch.allclose(half["gradients"][path], gradient, rtol=1e-7, atol=1e-12), path
    assert max(gradient.abs().max() for gradient in whole["gradients"].values()) > 1e-3


@pytest.mark.parametrize("name", ["moco", "densecl", "densecl unshuffled"])
def test_queues_have_keys_of_all_ranks(ranks, name):
    whole, *halves = (
        {key: buffer for key, buffer in state["buffers"].items() if "queue" in key}
        for state in (ranks[0][name]["whole"], *(found[name]["half"] for found in ranks))
    )
    assert len(whole) == (2 if name == "moco" else 4)
    for key, buffer in whole.items():
        assert torch.equal(halves[0][key], halves[1][key]), key
        assert torch.allclose(halves[0][key], buffer, rtol=1e-9), "the order is that of one process"


@pytest.mark.parametrize("name", NAMES)
def test_odd_batch_in_evaluation(ranks, name):
    for found in ranks:
        loss, target = found[name]["half"]["evaluated"]
        assert torch.isfinite(loss)
        assert target.shape[0] == 3
    assert torch.equal(ranks[0][name]["half"]["evaluated"][1], ranks[1][name]["half"]["evaluated"][1])
