"""castlit.make_masks from the command line: interruptions, a full disk, and training on the masks."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from PIL import Image

from castlit.cli.app import program
from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.next_training import shows_accelerator
from castlit.cli.overrides import shell_override
from castlit.make_masks import run
from castlit.saliency.pipeline.records import shard_folder
from castlit.saliency.pipeline.shard import Shard
from castlit.utils.process_pool import AHEAD

TINY = [
    "method.backbone=tiny_resnet",
    "method.queue_size=64",
    "data.size=32",
    "data.batch_size=8",
    "data.workers=0",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "hydra.run.dir=run",
]


def photo(path, seed=0, size=(160, 220)):
    """A noisy background with a block of another colour."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), rng.integers(40, 120, 3), np.float64)
    y, x = rng.integers(20, 60, 2)
    image[y : y + 60, x : x + 80] = rng.integers(150, 256, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Forty photographs in four folders."""
    top = tmp_path_factory.mktemp("many")
    for i in range(40):
        photo(top / "photos" / str(i % 4) / f"{i}.jpg", i)
    return top


def notes(folder):
    return json.loads((folder / "masks.json").read_text())


def complete_masks(folder):
    """The names of all masks; each must decode."""
    paths = sorted(folder.rglob("*.png"))
    for path in paths:
        with Image.open(path) as image:
            image.load()
    return [str(path.relative_to(folder)) for path in paths]


def environment(**more):
    return {**os.environ, "COLUMNS": "200", **more}


def start(*arguments, cwd, before=()):
    command = [*before, sys.executable, "-m", "castlit.make_masks", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def group_ends(group, seconds=30):
    """Whether all processes of a group have ended within this time."""
    for _ in range(seconds * 20):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", pytest.param("SIGTERM", marks=pytest.mark.nightly)])
def test_interrupted_run_resumes(run_program, many, tmp_path, name):
    arguments = [f"images={many / 'photos'}", "output=masks"]
    process = start(*arguments, "workers=2", cwd=tmp_path)
    output = tmp_path / "masks"
    while sum(1 for _ in output.rglob("*.png")) < 6:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    if name == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # to every process, as from a terminal
    else:
        process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert group_ends(process.pid), "processes are still running"
    assert process.returncode == {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143}[name]
    before = complete_masks(output)
    assert 6 <= len(before) < 40
    if name != "SIGKILL":
        who = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM"}[name]
        assert errors.strip() == f"{who}: stopped. The same command continues from here"
    assert notes(output)["complete"] is False
    times = {mask: (output / mask).stat().st_mtime_ns for mask in before}

    again = run_program("make_masks", *arguments, "workers=0", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(complete_masks(output)) == 40
    assert all((output / mask).stat().st_mtime_ns == time for mask, time in times.items()), "finished masks are skipped"
    assert not list(output.rglob("*.part"))
    counts = notes(output)["counts"]
    assert counts == {"images": 40, "made": 40 - len(before), "skipped": len(before), "failed": 0}
    assert notes(output)["complete"] is True


@pytest.mark.slow
def test_two_shards_at_once(many, tmp_path):
    both = [start(f"images={many / 'photos'}", "output=m", f"shard={i}/2", "workers=0", cwd=tmp_path) for i in (1, 2)]
    for process in both:
        out, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert len(complete_masks(tmp_path / "m")) == 40
    assert notes(tmp_path / "m")["counts"] == {"images": 40, "made": 40, "skipped": 0, "failed": 0}
    assert notes(tmp_path / "m")["complete"] is True
    assert "castlit.train" in out or "1 shards are not complete yet" in out


IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


@pytest.fixture
def small_disk(tmp_path):
    """A command prefix that mounts a disk of a given size in kB at ``disk``, in a namespace without privileges."""
    (tmp_path / "disk").mkdir()

    def before(kilobytes, then=""):
        mount = f"mount -t tmpfs -o size={kilobytes}k none disk {then}"
        return [*IN_A_NAMESPACE, f'{mount} && "$@"; code=$?; cp -r disk after; exit $code', "sh"]

    probe = subprocess.run([*before(64), "true"], cwd=tmp_path, capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"cannot mount a disk here: {probe.stderr.decode().strip()}")
    subprocess.run(["rm", "-r", tmp_path / "after"], check=True)
    return before


@pytest.mark.slow
def test_full_disk(many, tmp_path, small_disk):
    process = start(f"images={many / 'photos'}", "output=disk/masks", "workers=2", cwd=tmp_path, before=small_disk(100))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    (line,) = errors.strip().splitlines()
    assert line.startswith("error: disk/masks/")
    assert "cannot be written (No space left on device)" in line
    assert "free some space, then run the same command again" in line
    assert group_ends(process.pid)
    left = complete_masks(tmp_path / "after" / "masks")
    assert 0 < len(left) < 40
    counted = int(re.search(r"; (\d+) masks were made", line)[1])
    assert len(left) - 2 * AHEAD <= counted <= len(left), "masks in progress may be written but not counted"
    assert not list((tmp_path / "after").rglob("*.part"))


@pytest.mark.slow
def test_read_only_disk(many, tmp_path, small_disk):
    before = small_disk(1000, "&& mkdir disk/masks && mount -o remount,ro disk")
    process = start(f"images={many / 'photos'}", "output=disk/masks", cwd=tmp_path, before=before)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert errors.strip() == "error: output=disk/masks cannot be written to (Read-only file system)"


def error_line(monkeypatch, capfd, folder, words):
    """The single line of the program's error."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["castlit.make_masks", *words])
    with pytest.raises(SystemExit) as stop:
        program("make_masks", run)
    assert stop.value.code == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


class TestErrors:
    @pytest.fixture
    def photos(self, tmp_path):
        for i in range(3):
            photo(tmp_path / "photos" / f"{i}.jpg", i, (40, 60))
        return tmp_path

    def test_one_line_each(self, monkeypatch, capfd, photos):
        (photos / "empty").mkdir()
        (photos / "file").write_text("")
        good = {"images": "photos", "output": "masks", "workers": 0}
        for (key, value), words in {
            ("images", None): "images must be given: add images=",
            ("output", None): "output must be given: add output=",
            ("images", "phtos"): "images=phtos does not exist",
            ("images", "photos/0.jpg"): "is a file, not a folder",
            ("images", "empty"): "images=empty holds no images",
            ("output", "photos/masks"): "masks would be read as images",
            ("output", "file"): "is a file: give a folder",
            ("quality", "fsat"): "did you mean 'fast'?",
            ("side", "0.5"): "side must be a whole number",
            ("shard", "17/16"): "shard must be i/n with 1 <= i <= n, such as 1/16",
            ("workers", -1): "workers must be at least 0",
            ("overwrite", "no"): "overwrite must be true or false, got 'no'",
            ("images", "null"): "images must be the path of a file or folder, got None",
            ("images", "[photos,empty]"): "images must be the path of a file or folder, got ['photos', 'empty']",
            ("output", ""): "output must be the path of a file or folder, got ''",
        }.items():
            given = {**good, key: value}
            arguments = [f"{name}={value}" for name, value in given.items() if value is not None]
            assert words in error_line(monkeypatch, capfd, photos, arguments)
            assert sorted(path.name for path in photos.iterdir()) == ["empty", "file", "photos"], "nothing is left"

    def test_second_process_is_refused(self, monkeypatch, capfd, photos):
        script = (
            "import sys, pathlib\n"
            "from castlit.utils.locking import run_lock\n"
            "with run_lock(pathlib.Path(sys.argv[1])): print(); input()"
        )
        folder = shard_folder(photos / "masks", Shard())
        command = [sys.executable, "-c", script, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            other.stdout.readline()
            line = error_line(monkeypatch, capfd, photos, ["images=photos", "output=masks", "workers=0"])
            other.communicate("\n")
        assert line == "error: output=masks: another process is making these masks"

    def test_output_cannot_be_created(self, monkeypatch, capfd, photos):
        output = "/sys/castlit" if os.geteuid() == 0 else photos / "locked" / "masks"
        (photos / "locked").mkdir(mode=0o500)
        line = error_line(monkeypatch, capfd, photos, ["images=photos", f"output={output}", "workers=0"])
        assert line.startswith(f"error: output={output} cannot be written to (")

    def test_failed_images_are_listed(self, monkeypatch, capfd, photos):
        (photos / "photos" / "cut.jpg").write_bytes((photos / "photos" / "0.jpg").read_bytes()[:300])
        Image.fromarray(np.full((30, 30), 9, np.uint8)).save(photos / "photos" / "flat.png")
        monkeypatch.setattr("sys.stdout", sys.__stdout__)
        line = error_line(monkeypatch, capfd, photos, ["images=photos", "output=masks", "workers=0"])
        assert line == (
            "error: 2 of 5 images have no mask to train with, as masks/failed.csv lists: "
            "cut.jpg (the JPEG is cut short), flat.png (nothing stands out in it)"
        )
        with (photos / "masks" / "failed.csv").open() as file:
            assert [row["image"] for row in csv.DictReader(file)] == ["cut.jpg", "flat.png"]
        assert complete_masks(photos / "masks") == ["0.png", "1.png", "2.png", "flat.png"]
        assert notes(photos / "masks")["counts"] == {"images": 5, "made": 3, "skipped": 0, "failed": 2}


@pytest.mark.parametrize(
    "path", ["/a/b.c-d", "with space", "it's", "a=b,c", "x{1..2}", "ü(1)[2]", 'quo"te', "~x", "$HOME"]
)
def test_paths_are_unchanged(path):
    (word,) = shlex.split(shell_override("images", path))
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        assert compose("make_masks", [word, "output=o"]).images == path


@pytest.mark.slow
def test_photographs_to_training(run_line, tmp_path):
    """The documented command, then the command that it prints."""
    for i in range(24):
        photo(tmp_path / "my photos" / f"{i:02d}.jpg", i, (60, 80))
    made = run_line("python -m castlit.make_masks images='my photos' output=masks", tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "my photos"], "no folder of Hydra's"
    assert "Look at them: masks/preview.html" in made.stdout
    recommended = made.stdout.splitlines()[-1].strip()
    assert shlex.split(recommended) == [
        *("python", "-m", "castlit.train", "+experiment=cast_mocov2_evidence", "data=folder"),
        *("data.images='my photos'", "data.masks=masks"),
        *([] if shows_accelerator() else ["budget=laptop"]),
    ]
    result = run_line(f"{recommended} {' '.join(TINY)}", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "masks=masks: quality=fast (RBD and MC), made by castlit" in (tmp_path / "run" / "train.log").read_text()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["masks"]["quality"] == "fast"
    assert np.isfinite(summary["metrics"]["train/attention"]["end"])

    # The printed command also works if an image failed.
    (tmp_path / "my photos" / "bad.jpg").write_bytes(b"")
    made = run_line("python -m castlit.make_masks images='my photos' output=masks", tmp_path)
    assert made.returncode == 1
    recommended = made.stdout.splitlines()[-1].strip()
    assert " data.on_bad=unconstrained" in recommended
    result = run_line(f"{recommended} {' '.join(TINY)} trainer.fast_dev_run=true hydra.run.dir=dev", tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_real_photographs(run_program, mini, tmp_path):
    result = run_program("make_masks", f"images={mini}/val2017", "output=masks", "preview=8", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    precision, chance = [], []
    for path in (tmp_path / "masks").glob("*.png"):
        truth = cv2.imread(str(mini / "masks" / "val2017" / path.name), 0) > 127
        found = cv2.imread(str(path), 0)
        assert found.shape == truth.shape
        precision.append(truth[found > 128].mean())
        chance.append(truth.mean())
    assert len(precision) == 47
    assert np.mean(precision) > np.mean(chance) + 0.1
