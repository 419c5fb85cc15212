"""quality=deepusps from the command line: training, resuming, and starting from a castlit checkpoint."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = [
    "quality=deepusps",
    "backbone.name=tiny_resnet",
    "deepusps.methods=[rbd,hs]",
    "deepusps.width=8",
    "deepusps.size=48",
    "deepusps.batch_size=4",
    "deepusps.epochs=2",
    "deepusps.final_epochs=3",
    "deepusps.accelerator=cpu",
    "workers=0",  # a process for masks imports castlit again
]

SMALL = [
    "method.backbone=tiny_resnet",
    "method.queue_size=64",
    "data.size=32",
    "data.batch_size=4",
    "data.workers=0",
]


def photo(path, seed):
    """A noisy background with a block of another colour."""
    rng = np.random.default_rng(seed)
    image = np.full((60, 80, 3), rng.integers(40, 120, 3), np.float64)
    y, x = rng.integers(5, 30, 2)
    image[y : y + 25, x : x + 30] = rng.integers(150, 256, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    for i in range(10):
        photo(tmp_path / "photos" / f"{i}.jpg", i)
    return tmp_path


def notes(folder):
    return json.loads((folder / "masks" / "masks.json").read_text())


@pytest.mark.slow
def test_trained_and_applied(run_program, photos):
    command = ["images=photos", "output=masks", *TINY]
    made = run_program("make_masks", *command, "workers=1", cwd=photos)
    assert made.returncode == 0, made.stderr
    for i in range(10):
        with Image.open(photos / "masks" / f"{i}.png") as mask:
            assert (mask.mode, mask.size) == ("L", (80, 60))
    found = notes(photos)
    assert (found["quality"], found["method"]) == ("deepusps", "DeepUSPS")
    assert found["settings"]["deepusps"]["epochs"] == 2
    assert "torch" in found["versions"]
    assert found["counts"] == {"images": 10, "made": 10, "skipped": 0, "failed": 0}
    assert (photos / "masks" / "preview.html").exists()

    # A new photograph gets a mask from the same network, with a warning.
    photo(photos / "photos" / "new.jpg", 77)
    times = {path: path.stat().st_mtime_ns for path in (photos / "masks").glob("*.png")}
    network = (photos / "masks" / ".deepusps" / "training" / "network.pt").stat().st_mtime_ns
    more = run_program("make_masks", *command, cwd=photos)
    assert more.returncode == 0, more.stderr
    assert "was trained on other images (10)" in more.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert (photos / "masks" / ".deepusps" / "training" / "network.pt").stat().st_mtime_ns == network
    assert notes(photos)["counts"] == {"images": 11, "made": 1, "skipped": 10, "failed": 0}

    # castlit.train reads only the masks in their folder.
    words = [
        "+experiment=cast_mocov2",
        "data=folder",
        "data.images=photos",
        "data.masks=masks",
        "trainer.fast_dev_run=true",
    ]
    trained = run_program("train", *words, *SMALL, "data.on_bad=unconstrained", "hydra.run.dir=run", cwd=photos)
    assert trained.returncode == 0, trained.stderr

    # Other settings need another output.
    other = run_program("make_masks", *command, "deepusps.epochs=3", cwd=photos)
    assert other.returncode == 1
    (line,) = other.stderr.strip().splitlines()
    assert "give another output" in line
    wrong = run_program("make_masks", *command, "deepusps.momentum=2", cwd=photos)
    assert wrong.stderr.strip().splitlines() == ["error: deepusps.momentum must be at most 1, got 2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGKILL", marks=pytest.mark.nightly)])
def test_stopped_during_training(run_program, fork_server, photos, name):
    command = ["images=photos", "output=masks", *TINY, "deepusps.final_epochs=20"]
    with Path(os.devnull).open("w+") as nothing, (photos / "errors").open("w") as errors:
        words = ["-m", "castlit.make_masks", *command, "workers=1"]
        streams = [each.fileno() for each in (nothing, nothing, errors)]
        fork = fork_server.start(words, photos, dict(os.environ), streams)
    try:
        deadline = time.monotonic() + 120
        while not (photos / "masks" / ".deepusps" / "training" / "rbd_1.pt").exists():
            assert time.monotonic() < deadline, (photos / "errors").read_text()
            time.sleep(0.01)
        os.kill(fork.pid, getattr(signal, name))
        assert fork.wait() == {"SIGKILL": -9, "SIGTERM": 143}[name]
    finally:
        fork.close()
    if name == "SIGTERM":
        assert (photos / "errors").read_text().strip() == "SIGTERM: stopped. The same command continues from here"
    assert not list((photos / "masks").glob("*.png"))
    kept = (photos / "masks" / ".deepusps" / "training" / "rbd_1.pt").stat().st_mtime_ns
    again = run_program("make_masks", *command, cwd=photos)
    assert again.returncode == 0, again.stderr
    assert len(list((photos / "masks").glob("*.png"))) == 10
    assert (photos / "masks" / ".deepusps" / "training" / "rbd_1.pt").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_start_from_castlit_checkpoint(run_program, photos):
    words = ["+experiment=mocov2", "data=folder", "data.images=photos", "data.masks=null", "trainer.max_epochs=1"]
    trained = run_program("train", *words, *SMALL, "hydra.run.dir=run", cwd=photos)
    assert trained.returncode == 0, trained.stderr
    command = ["images=photos", "output=masks", *TINY]
    start = ["backbone.weights=run/checkpoints/last.ckpt"]
    wrong = run_program("make_masks", *command, *start, "backbone.name=resnet18", cwd=photos)
    assert wrong.returncode == 1
    (line,) = wrong.stderr.strip().splitlines()
    assert line.startswith("error: backbone.weights=run/checkpoints/last.ckpt: its weights are not those of")
    assert not list((photos / "masks").glob("*.png"))
    made = run_program("make_masks", *command, *start, cwd=photos)
    assert made.returncode == 0, made.stderr
    assert notes(photos)["settings"]["deepusps"]["backbone"]["weights"], "the weights are recorded"
