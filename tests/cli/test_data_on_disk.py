"""Folders of photographs on the command line: bad files are reported, listed and handled."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

SMALL = [
    "+experiment=cast_mocov2",
    "data=folder",
    "data.size=32",
    "data.batch_size=4",
    "budget.backbone=tiny_resnet",
    "budget.queue_size=16",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "+callbacks.panel.pixels=32",
    "hydra.run.dir=run",
]


@pytest.fixture
def photographs(tmp_path):
    """Ten good pairs, a truncated image, a missing mask and an empty one."""
    rng = np.random.default_rng(0)
    for i in range(13):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)).save(tmp_path / "images" / f"{i:02d}.jpg")
        mask = np.zeros((20, 30), np.uint8)
        mask[5:15, 8 : 8 + i] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i:02d}.png")
    with (tmp_path / "images" / "11.jpg").open("r+b") as file:
        file.truncate(500)
    (tmp_path / "masks" / "12.png").unlink()
    return tmp_path


def train(run_program, folder, *arguments):
    return run_program("train", *SMALL, "data.images=images", "data.masks=masks", *arguments, cwd=folder)


def test_default_stops_on_bad_files(run_program, photographs):
    result = train(run_program, photographs)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    for part in ("3 of 13 images", "11.jpg", "12.jpg", "00.jpg", "run/data_report.csv", "on_bad=drop"):
        assert part in line
    assert "Traceback" not in result.stderr


def test_drop_bad_files_and_reuse_index(run_program, photographs):
    result = train(run_program, photographs, "data.on_bad=drop")
    assert result.returncode == 0, result.stderr
    with (photographs / "run" / "data_report.csv").open(newline="") as file:
        rows = [(row["image"], row["problem"], row["handling"]) for row in csv.DictReader(file)]
    assert rows == [
        ("00.jpg", "mask empty", "left out"),
        ("11.jpg", "image unreadable", "left out"),
        ("12.jpg", "mask missing", "left out"),
    ]
    assert json.loads((photographs / "run" / "summary.json").read_text())["relaxed_crops"] == {"scale": 0, "ratio": 0}
    (kept,) = (photographs / "outputs" / "castlit_index").iterdir()
    built = (kept / "images.npy").stat().st_mtime_ns
    # The recommended command reads the same photographs and reuses their index.
    recommended = next(line for line in result.stdout.splitlines() if "castlit.evaluate" in line).split()
    result = run_program("evaluate", *recommended[recommended.index("castlit.evaluate") + 1 :], cwd=photographs)
    assert result.returncode == 0, result.stderr
    assert (kept / "images.npy").stat().st_mtime_ns == built


def test_colours_on_device(run_program, photographs):
    result = train(run_program, photographs, "data.on_bad=unconstrained", "data.photometric=device")
    assert result.returncode == 0, result.stderr


def test_without_masks(run_program, photographs):
    result = train(run_program, photographs, "data.masks=null", "data.on_bad=drop")
    assert result.returncode == 0, result.stderr
    summary = json.loads((photographs / "run" / "summary.json").read_text())
    assert summary["metrics"]["train/empty_masks"] == {"start": 1.0, "end": 1.0}
    assert summary["metrics"]["train/attention"] == {"start": 0.0, "end": 0.0}
