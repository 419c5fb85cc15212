"""Two processes (gloo): a signal to one stops both after the same step, and both resume exactly."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, run_two_ranks):
    """The final states of both ranks, see two_ranks_resume.py; and the folder of their runs."""
    folder = tmp_path_factory.mktemp("two_ranks")
    script = Path(__file__).with_name("two_ranks_resume.py")
    return folder, run_two_ranks(script, folder, timeout=180)


@pytest.mark.parametrize("name", ["the second, in a step", "the first, in a validation"])
def test_both_stop_and_resume(ranks, name):
    folder, states = ranks
    for number, state in enumerate(states):
        found, wanted = state[name], state["whole"]
        assert found["code"] == (0 if number else 143), "only the first process exits with an error"
        assert found["steps"] == wanted["steps"] == 10
        for key, tensor in wanted["weights"].items():
            assert torch.equal(found["weights"][key], tensor), key
        assert torch.equal(found["queue"], wanted["queue"])
        assert torch.equal(found["draw"], wanted["draw"]), "each rank its own random numbers"
    assert not torch.equal(states[0]["whole"]["draw"], states[1]["whole"]["draw"])
    assert (folder / name / "metrics.csv").read_text() == (folder / "whole" / "metrics.csv").read_text()


def test_nan_loss_on_one_rank(ranks):
    folder, states = ranks
    assert "see bad*.json" in states[0]["poisoned"] or "the loss is nan" in states[0]["poisoned"]
    assert "bad_rank1.json names its images" in states[1]["poisoned"]
    assert (folder / "poisoned" / "bad_rank1.json").is_file()


def test_steps_wait_for_no_flag(ranks):
    assert [state["reductions"] for state in ranks[1]] == [0, 0]
