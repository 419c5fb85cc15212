"""Disks that are full or cannot be written to: one line that names the file or folder, and nothing half left."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/sys is a folder that nobody can write to on Linux")

SMALL = [
    *("data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32", "data.scene_size=36"),
    *("data.workers=0", "method.queue_size=16", "trainer.max_epochs=1"),
]

# No file may be larger: what torch writes then fails as on a full disk.
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
sys.argv = ["castlit.train", *sys.argv[1:]]
runpy.run_module("castlit.train", run_name="__main__")
"""

INDEX = """
import resource
from pathlib import Path
from castlit.utils.bytes_array import BytesArray
from castlit.utils.validation import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    BytesArray.collect((bytes(1000) for _ in range(1000)), Path.cwd())
except InputError as error:
    print(error)
"""


def test_checkpoint(run_python, tmp_path):
    done = run_python("-c", LIMITED, *SMALL, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/run/checkpoints/last.ckpt: File too large\n"
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_index(run_python, tmp_path):
    done = run_python("-c", INDEX, cwd=tmp_path)
    assert done.stdout == f"{tmp_path}: no room for the index (File too large)\n", done.stderr


@pytest.mark.parametrize(
    ("program", "words", "folder", "key"),
    [
        ("train", SMALL, "/sys/outputs/", "hydra.run.dir"),
        ("train", ["-m", "seed=0,1"], "/sys/multirun/", "hydra.sweep.dir"),
        ("train", ["hydra.run.dir=/sys"], "/sys ", "hydra.run.dir"),
        ("evaluate", ["+protocol=knn", "checkpoint=random"], "/sys/outputs/", "hydra.run.dir"),
    ],
)
def test_folder_that_cannot_be_written(run_program, program, words, folder, key):
    done = run_program(program, *words, cwd="/sys")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {folder}")
    assert "cannot be written to (" in line
    assert line.endswith(f"): choose another {key}")


@pytest.mark.parametrize(
    ("in_the_way", "file", "why"),
    [
        (".hydra", "run/.hydra", "File exists"),
        ("train.log/", "run/train.log", "Is a directory"),
        (".hydra/hydra.yaml/", "run/.hydra/hydra.yaml", "Is a directory"),
        ("long", "run" + 300 * "n", "File name too long"),
    ],
)
def test_files_that_hydra_cannot_write(run_python, tmp_path, in_the_way, file, why):
    """Hydra writes before the program begins, and its own report is a traceback."""
    folder = "run" + 300 * "n" if in_the_way == "long" else "run"
    hydras = tmp_path / "run" / ".hydra" / "config.yaml"
    if in_the_way != ".hydra":
        hydras.parent.mkdir(parents=True)
        hydras.write_text("of: an earlier run\n")
    blocked = tmp_path / "run" / in_the_way
    blocked.parent.mkdir(exist_ok=True)
    if in_the_way.endswith("/"):
        blocked.mkdir()
    elif in_the_way == ".hydra":
        blocked.write_text("")
    done = run_python("-c", LIMITED, *SMALL, f"hydra.run.dir={folder}", cwd=tmp_path)
    assert done.returncode == 1
    name = file if in_the_way == "long" else tmp_path / file
    assert done.stderr == f"error: {name} cannot be written to ({why}): choose another hydra.run.dir\n"
    if hydras.is_file():
        assert hydras.read_text() == "of: an earlier run\n"


def test_caches(run_program, tmp_path):
    """A cache that cannot be written to is no reason to stop."""
    words = ["+protocol=knn", "checkpoint=random", "backbone=tiny_resnet", "protocol.cache=/sys", "protocol.workers=0"]
    small = ["protocol.train_count=32", "protocol.test_count=8", "protocol.k=[5]"]
    done = run_program("evaluate", *words, *small, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the features cannot be cached (" in done.stdout
    assert (tmp_path / "run" / "results.json").is_file()
