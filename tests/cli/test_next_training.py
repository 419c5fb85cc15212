"""The command that trains on what a program has made: for small machines where there is no accelerator."""

import pytest
from rich.console import Console

from castlit.cli.next_training import print_next_training


@pytest.mark.parametrize("accelerator", [True, False])
def test_command(monkeypatch, capsys, accelerator):
    monkeypatch.setattr("castlit.cli.next_training.shows_accelerator", lambda: accelerator)
    print_next_training(Console(soft_wrap=True, highlight=False), "data=folder", "data.images='my [photos]'")
    said, command = capsys.readouterr().out.splitlines()
    words = "castlit.train +experiment=cast_mocov2_evidence data=folder data.images='my [photos]'"
    assert command.endswith(words) == accelerator
    assert command.endswith(" budget=laptop") == ("without a GPU" in said) == (not accelerator)
