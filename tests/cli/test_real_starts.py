"""Every program started as a user does, imports included. Other tests fork it after the imports."""

import json

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

SCENES = ["data.train_count=64", "data.val_count=16", "data.batch_size=32"]
STUDY = ["--config-dir", "mine", "study=small", "output=study", "seeds=1"]

# For each program: a minimal command, a mistaken one and words of its error line.
PROGRAMS = {
    "train": (["trainer.fast_dev_run=true", *SCENES], ["optimizer.lr=0"], "optimizer.lr must be greater than 0"),
    "evaluate": (
        ["+protocol=grounding", "checkpoint=random", "backbone=tiny_resnet", *SCENES, "data.workers=0"],
        ["+protocol=scenes", "checkpoint=/no/such.ckpt"],
        "/no/such.ckpt",
    ),
    "make_masks": (
        ["images=photos", "output=made", "workers=2"],
        ["images=nowhere", "output=made"],
        "images=nowhere does not exist",
    ),
    "make_shards": (
        ["images=photos", "masks=masks", "output=shards"],
        ["images=nowhere", "masks=masks", "output=shards"],
        "nowhere",
    ),
    "make_scenes": (
        ["output=scenes", "train_count=4", "val_count=4", "size=40"],
        ["output=other", "train_count=0"],
        "count must be at least 1",
    ),
    "export": (["checkpoint=in.pth", "output=out.pth"], ["checkpoint=none.pth", "output=x.pth"], "no such file"),
    "compare": (["runs"], ["nowhere"], "nowhere does not exist"),
    "study": (STUDY, [*STUDY, "columns=[]"], "columns: name the"),
    "bench": ([], ["speed"], "there is no benchmark 'speed'"),
}

WITHOUT_TORCH = ("make_masks", "make_shards", "make_scenes", "compare")


@pytest.fixture
def place(made_run, tmp_path):
    """A folder with the files that the programs read."""
    rng = np.random.default_rng(0)
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
        for i in range(2):
            photo = rng.integers(0, 80, (40, 60, 3), np.uint8)
            photo[10:30, 20:40] += 150
            mask = np.zeros((40, 60), np.uint8)
            mask[10:30, 20:40] = 255
            Image.fromarray(photo if name == "photos" else mask).save(tmp_path / name / f"{i}.png")
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "in.pth")
    made_run(tmp_path / "runs" / "0")
    (tmp_path / "mine" / "study").mkdir(parents=True)
    (tmp_path / "mine" / "study" / "small.yaml").write_text(
        "# @package _global_\ncolumns: [knn]\narms:\n  a: [+experiment=mocov2]\n"
    )
    # This run is finished, so the study only writes its pages.
    run = made_run(tmp_path / "study" / "runs" / "a" / "seed_0")
    (run / "evaluation").mkdir()
    (run / "evaluation" / "results.json").write_text(json.dumps({"results": {"knn": 0.5}}))
    facts = {"train": ["+experiment=mocov2"], "evaluate": ["+protocol=scenes"], "seed": 0}
    (run / "study.json").write_text(json.dumps(facts))
    return tmp_path


# The tests of several processes start train in this way. No benchmark is short.
@pytest.mark.parametrize("program", [name for name in PROGRAMS if name not in ("train", "bench")])
def test_success(start_program, place, program):
    # Python lists on stderr what it imports; so do the processes that the program starts.
    done = start_program(program, *PROGRAMS[program][0], cwd=place, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "hydra" in imported
    unwanted = {"albumentations"}
    if program != "evaluate":  # its linear probe
        unwanted |= {"sklearn"}
    if program in WITHOUT_TORCH:
        unwanted |= {"torch", "torchvision", "pytorch_lightning", "scipy.stats"}
    assert not imported & unwanted


@pytest.mark.nightly
@pytest.mark.parametrize("program", PROGRAMS)
def test_mistake_in_one_line(start_program, place, program):
    _, words, reported = PROGRAMS[program]
    done = start_program(program, *words, cwd=place)
    assert done.returncode == 1
    assert reported in done.stderr
    assert "Traceback" not in done.stderr
