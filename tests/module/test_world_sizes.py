"""One process with 16 images and two with 8 take the same steps, and each can resume the other's run."""

import functools
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("world_sizes.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_ranks):
    """Gives, for a method, the loss's key and a number of steps, the results of one process and of each of two."""

    @functools.cache
    def get(method, key, steps):
        folder = tmp_path_factory.mktemp("whole")
        for count in (1, 2):
            run_ranks(count, SCRIPT, folder, "whole", method, key, steps, timeout=300)
        names = ("whole_of_1_rank0.pt", "whole_of_2_rank0.pt", "whole_of_2_rank1.pt")
        return [torch.load(folder / name) for name in names]

    return get


def same_rows(found, wanted, within):
    assert [row["step"] for row in found] == [row["step"] for row in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, abs=within), (key, theirs["step"])


@pytest.mark.parametrize(
    ("method", "key", "steps"),
    [
        ("moco", "masked_image", 14),
        pytest.param("moco", "masked_features", 14, marks=pytest.mark.nightly),
        pytest.param("simclr", "masked_image", 20, marks=pytest.mark.nightly),
    ],
)
def test_world_size_changes_nothing(whole, method, key, steps):
    one, first, second = whole(method, key, steps)
    assert len(one["rows"]) == steps
    assert one["rows"][0]["train/empty_masks"] > 0.2
    assert one["rows"][-1]["train/attention"] < one["rows"][0]["train/attention"] - 0.02
    for rank in (first, second):
        same_rows(rank["rows"], one["rows"], within=1e-5)
        assert list(rank["state"]) == list(one["state"])
        for name, value in one["state"].items():
            assert torch.allclose(rank["state"][name].double(), value.double(), atol=1e-4), name
        assert "SyncBatchNorm" not in rank["kinds"], "they are removed after the fit"


@pytest.mark.parametrize(
    "parts",
    [
        ((2, 5, 16), (1, 10, 16), (2, 14, 16)),
        pytest.param(((1, 5, 16), (2, 14, 16)), marks=pytest.mark.nightly),
    ],
)
def test_resume_with_other_world_size(whole, parts, tmp_path, run_ranks):
    rows = []
    for count, steps, images in parts:
        run_ranks(count, SCRIPT, tmp_path, f"to-{steps}-{images}")
        found = torch.load(tmp_path / f"to-{steps}-{images}_of_{count}_rank0.pt")
        rows += found["rows"]
    wanted = whole("moco", "masked_image", 14)[0]
    same_rows(rows, wanted["rows"], within=1e-5)
    for key, value in wanted["state"].items():
        assert torch.allclose(found["state"][key].double(), value.double(), atol=1e-4), key


def test_resume_with_other_batch_size(tmp_path, run_ranks):
    """Two ranks with 8 images each, then one with 8: no image of the interrupted epoch is used twice."""
    run_ranks(2, SCRIPT, tmp_path, "to-4-16")  # three steps per epoch: one step of the second
    run_ranks(1, SCRIPT, tmp_path, "to-11-8")
    rows = torch.load(tmp_path / "to-11-8_of_1_rank0.pt")["rows"]
    # 50 - 16 images are left: four steps of 8, and six in each later epoch.
    assert [row["epoch"] for row in rows] == [1, 1, 1, 1, 2, 2, 2]
    assert [row["step"] for row in rows] == list(range(5, 12))
