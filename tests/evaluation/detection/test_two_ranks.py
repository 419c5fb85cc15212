"""A detector fine-tuned by two processes."""

from pathlib import Path

import torch


def test_processes_agree(run_two_ranks, voc):
    one, other = run_two_ranks(Path(__file__).with_name("two_ranks.py"), voc.parent)
    assert one["synchronised"] == other["synchronised"] == 1
    assert one["weights"].keys() == other["weights"].keys()
    assert all(torch.equal(value, other["weights"][name]) for name, value in one["weights"].items())
    # Each process tested one of the two images and has the detections of both.
    assert [number for number, _ in one["found"]] == [1, 2]
    assert one["found"] == other["found"]
    assert one["scores"] == other["scores"]
