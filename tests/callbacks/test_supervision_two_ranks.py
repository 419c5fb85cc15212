"""The callback under Lightning's DDP on two processes (gloo), with synchronised batch norm in the heads, too."""

from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_ranks.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory, run_ranks):
    """The results of one process with the full batch, and of two with half of it each; see two_ranks.py."""
    folders = [tmp_path_factory.mktemp("ranks") for _ in range(2)]
    for count, folder in zip((1, 2), folders, strict=True):
        run_ranks(count, SCRIPT, folder)
    return [
        torch.load(folder / f"rank{rank}.pt")
        for folder, rank in zip((folders[0], folders[1], folders[1]), (0, 0, 1), strict=True)
    ]


@pytest.mark.parametrize("run", ["", ", accumulated"])
def test_ranks_take_same_steps(found, run):
    alone, first, second = found
    assert first["theirs" + run]["steps"] == (2 if run else 6)
    assert first["theirs" + run]["attention"] == pytest.approx(alone["theirs" + run]["attention"], rel=1e-6)
    for other in (second["theirs" + run], first["castlit's" + run], alone["theirs" + run]):
        for mine, its in zip(first["theirs" + run]["weights"], other["weights"], strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-9)
