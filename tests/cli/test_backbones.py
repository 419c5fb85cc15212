"""Backbones chosen by name on the command line: the key, the default attention layer and the CAM panel."""

import csv
import json
import sys

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_module
from PIL import Image

from castlit.cli.app import program
from castlit.cli.config_dir import CONFIG_MODULE
from castlit.train import train

SMALL = ["data.train_count=128", "data.val_count=32", "data.batch_size=32", "trainer.log_every_n_steps=1"]
TINY = [
    *("data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32", "data.scene_size=40"),
    *("data.workers=0", "callbacks.panel=null"),
]


def method(*overrides):
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("train", overrides=["hydra.runtime.output_dir=/nowhere", *overrides]).module.method


@pytest.mark.parametrize("experiment", ["mocov1", "mocov2", "mocov3", "simclr", "byol", "simsiam", "densecl", "vicreg"])
@pytest.mark.parametrize("key", ["backbone", "budget.backbone", "method.backbone"])
def test_backbone_keys(experiment, key):
    assert method(f"+experiment=cast_{experiment}").backbone == "tiny_resnet"
    assert method(f"+experiment=cast_{experiment}", f"{key}=timm/convnext_tiny").backbone == "timm/convnext_tiny"


def test_default_depends_on_data():
    coco = ["data=coco", "data.root=/nowhere", "data.masks=/nowhere"]
    assert method(*coco).backbone == "resnet50"
    assert method(*coco, "backbone=regnet_y_400mf").backbone == "regnet_y_400mf"


@pytest.mark.parametrize(
    ("backbone", "more"),
    [
        ("timm/test_vit", []),
        ("timm/test_convnext", ["attention.key=masked_features", "activation_checkpointing=true"]),
    ],
)
def test_timm_run(run_program, tmp_path, backbone, more):
    pytest.importorskip("timm")
    run = ["+experiment=cast_mocov2", f"backbone={backbone}", *more, *SMALL]
    result = run_program("train", *run, "trainer.max_epochs=2", "hydra.run.dir=r", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "r"
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert len(rows) == 8
    assert all(np.isfinite(float(row["train/loss"])) for row in rows)
    assert all(0 < float(row["train/attention"]) < 1 for row in rows)
    panel = np.asarray(Image.open(folder / "gradcam.png")).astype(float)
    before, after = panel[-34 - 300 : -34 - 150], panel[-34 - 150 : -34]
    assert before[:, 132:].std() > 20, "the CAMs have colours"
    assert np.abs(before - after).mean() > 1, "and change"
    assert yaml.safe_load((folder / "config.yaml").read_text())["method"]["backbone"] == backbone
    evaluation = run_program(
        "evaluate",
        "+protocol=scenes",
        "checkpoint=r/checkpoints/last.ckpt",
        "protocol.train_count=60",
        "protocol.test_count=30",
        "hydra.run.dir=e",
        cwd=tmp_path,
    )
    assert evaluation.returncode == 0, evaluation.stderr
    assert 0 <= json.loads((tmp_path / "e" / "results.json").read_text())["results"]["pointing/original"] <= 1


def test_resume_compares_backbones(run_program, tmp_path):
    run = ["+experiment=cast_mocov2", *TINY, "resume=last"]
    first = run_program("train", *run, "trainer.max_epochs=1", "backbone=timm/test_resnet", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    other = run_program("train", *run, "trainer.max_epochs=1", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert "is another run, they differ in module.method.backbone" in other.stdout
    again = run_program("train", *run, "trainer.max_epochs=2", "backbone=timm/test_resnet", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(list(tmp_path.glob("outputs/*/*/summary.json"))) == 2, "in its own folder"


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("timm/vit_tiny_patch16_24", "did you mean 'vit_tiny_patch16_224'"),
        ("timm/crossvit_tiny_240", "not one feature map"),
        ("timm/vit_tiny_patch16_224", "does not take images of 72 x 72 px"),
    ],
)
def test_one_line_errors(monkeypatch, capfd, tmp_path, backbone, words):
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    words_typed = [f"backbone={backbone}", "data.size=72", "trainer.fast_dev_run=true", *SMALL[:3]]
    monkeypatch.setattr(sys, "argv", ["castlit.train", *words_typed])
    with pytest.raises(SystemExit) as stop:
        program("train", train)
    assert stop.value.code == 1
    told = capfd.readouterr().err
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "Traceback" not in told
