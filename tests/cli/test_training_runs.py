"""Complete training runs from the command line, with small settings."""

import csv
import json
import re
import shlex
import subprocess

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

SMALL = [
    *("data.train_count=192", "data.val_count=48", "data.batch_size=32", "trainer.log_every_n_steps=1"),
    *("data.size=48", "data.scene_size=56"),
]
# Where nothing is learnt: 6 steps an epoch.
TINY = [
    *("data.train_count=48", "data.val_count=8", "data.batch_size=8", "trainer.log_every_n_steps=1"),
    *("data.size=32", "data.scene_size=40", "data.workers=0", "+callbacks.panel.pixels=32"),
]


def columns(folder):
    """The logged values of each metric, in order."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


@pytest.mark.nightly
@pytest.mark.timeout(1800)  # four minutes on two free cores, up to three times that beside other tests
def test_main_command(start_program, tmp_path):
    """The first page's claim: with only the experiment's name given, the encoder looks at the objects."""
    result = start_program(
        "train", "+experiment=cast_mocov2", "hydra.run.dir=main", cwd=tmp_path, timeout=1700, OMP_NUM_THREADS="2"
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "main" / "summary.json").read_text())
    attention, pointing = (summary["metrics"][name] for name in ("train/attention", "val/pointing"))
    assert attention["end"] < 0.5 * attention["start"]
    assert pointing["end"] > 0.85
    assert pointing["end"] > 2 * pointing["start"]
    assert summary["validation_share"] < 0.05
    lines = result.stdout.splitlines()
    assert any("train/attention" in line and "fell" in line for line in lines)
    assert any("val/pointing" in line and "rose" in line for line in lines)


def recommended(result):
    """The next command, as printed at the end of the run."""
    return next(line for line in result.stdout.splitlines() if "castlit.evaluate" in line)


def typed(command, *more, cwd):
    """Run a command as the shell would."""
    return subprocess.run([*shlex.split(command), *more], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_run_and_recommended_command(run_program, tmp_path):
    result = run_program(
        "train", "+experiment=cast_mocov2", "trainer.max_epochs=3", "hydra.run.dir=my run", *SMALL, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "my run"
    for name in ("metrics.csv", "checkpoints/last.ckpt", "gradcam.png", "config.yaml", "summary.json"):
        assert (folder / name).is_file(), name

    metrics = columns(folder)
    assert len(metrics["train/loss"]) == 18
    total = np.add(metrics["train/contrastive"], 3 * np.array(metrics["train/attention"]))
    assert np.allclose(metrics["train/loss"], total, rtol=1e-4)
    assert np.mean(metrics["train/attention"][-6:]) < 0.7 * np.mean(metrics["train/attention"][:3])
    assert all(0 <= value <= 1 for name in ("train/pointing", "val/pointing", "val/knn") for value in metrics[name])
    assert len(metrics["val/pointing"]) == 2, "before training and after the last epoch"

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["epochs"] == 3
    assert summary["steps"] == 18
    assert summary["metrics"]["val/pointing"]["start"] == pytest.approx(metrics["val/pointing"][0])
    assert summary["metrics"]["val/pointing"]["end"] == pytest.approx(metrics["val/pointing"][-1])
    assert summary["metrics"]["train/attention"]["end"] == pytest.approx(
        np.mean(metrics["train/attention"][-6:]), rel=1e-4
    )
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 3
    panel = np.asarray(Image.open(folder / "gradcam.png"))
    assert panel.shape[0] > 4 * 144
    assert panel.std() > 20
    assert set(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]) >= {"method"}

    for figure in ("train/attention", "val/pointing"):
        assert figure in result.stdout
    # What will run, and how far it is: this output is no terminal.
    log = (folder / "train.log").read_text()
    for written in (result.stdout, log):
        assert "cast_mocov2: 192 images, 6 steps an epoch, 3 epochs; tiny_resnet, 48 px, batches of 32; " in written
        assert re.findall(r"Epoch (\d) of 3, step (\d+) of 18: train/loss ", written) == [
            *(("1", "6"), ("2", "12"), ("3", "18")),
        ]
        assert re.search(r"Epoch 3 of 3.*, val/pointing 0\.\d{3}; [\d.]+ images/s, 0:00:00 left\n", written)
    assert "method.queue_size=2048: more than the 192 images" in log
    assert "━━━" not in result.stdout.partition("cast_mocov2: 3 epochs, 18 steps")[0], "no bar"
    evaluation = typed(
        recommended(result), "protocol.train_count=60", "protocol.test_count=30", "hydra.run.dir=e", cwd=tmp_path
    )
    assert evaluation.returncode == 0, evaluation.stderr
    results = json.loads((tmp_path / "e" / "results.json").read_text())["results"]
    assert {"linear/mixed_rand", "linear/background_gap", "object_information", "pointing/original"} <= set(results)


# The others learn less from the smaller images.
@pytest.mark.parametrize(
    ("name", "words"),
    [
        *(
            (each, ["data.train_count=256", "data.batch_size=32", "data.size=32", "data.scene_size=40"])
            for each in ("mocov2", "byol")
        ),
        *(
            pytest.param(each, ["data.train_count=512", "data.batch_size=64"], marks=pytest.mark.nightly)
            for each in ("mocov1", "simclr", "simsiam", "mocov3", "densecl", "vicreg")
        ),
    ],
)
def test_every_method_improves_pointing(run_program, tmp_path, name, words):
    result = run_program(
        "train",
        f"+experiment=cast_{name}",
        "trainer.max_epochs=4",
        "trainer.log_every_n_steps=1",
        "data.val_count=48",
        "callbacks.panel=null",
        "hydra.run.dir=r",
        *words,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    metrics = columns(tmp_path / "r")
    attention = metrics["train/attention"]
    assert len(attention) == 32
    assert np.isfinite(metrics["train/loss"]).all()
    assert np.mean(attention[-8:]) < 0.8 * np.mean(attention[:3])
    assert metrics["val/pointing"][-1] > metrics["val/pointing"][0], "on images it has not seen, too"


def test_run_limited_by_steps(run_program, tmp_path):
    result = run_program(
        "train",
        "trainer.max_steps=2",
        "trainer.enable_progress_bar=false",
        "hydra.run.dir=r",
        *(word for word in TINY if "log_every" not in word),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    metrics = columns(tmp_path / "r")
    assert len(metrics["val/pointing"]) == 2
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["steps"] == 2
    assert summary["metrics"]["val/knn"]["end"] == pytest.approx(metrics["val/knn"][-1])


@pytest.mark.nightly
def test_sweep_over_experiments(run_program, repository, tmp_path):
    result = run_program(
        "train",
        "-m",
        "+experiment=glob(*)",
        "trainer.fast_dev_run=true",
        *TINY,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    names = {path.stem for path in (repository / "conf" / "experiment").glob("*.yaml")}
    configs = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("multirun/*/*/*/config.yaml")]
    assert {config["name"] for config in configs} == names


def test_sweep_folders(run_program, tmp_path):
    result = run_program(
        "train",
        "-m",
        "+experiment=cast_mocov2",
        "attention.weight=0,3",
        "trainer.max_epochs=1",
        "hydra.sweep.dir=sweep",
        *TINY,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    alone = run_program(
        "train", "+experiment=cast_mocov2", "trainer.max_epochs=1", "hydra.run.dir=alone", *TINY, cwd=tmp_path
    )
    assert alone.returncode == 0, alone.stderr
    folders = sorted(path.parent for path in (tmp_path / "sweep").glob("*/summary.json"))
    assert [folder.name for folder in folders] == ["0", "1"]
    first, second = (columns(folder) for folder in folders)
    assert first["train/loss"] == first["train/contrastive"]
    assert second["train/loss"] != second["train/contrastive"]
    # The sweep's second job logs exactly the values of the same job run alone.
    assert second == columns(tmp_path / "alone")


def test_real_photographs(run_program, mini, tmp_path):
    result = run_program(
        "train",
        "+experiment=cast_mocov2",
        "data=coco",
        f"data.root={mini}",
        f"data.masks={mini / 'masks'}",
        "data.size=64",
        "data.batch_size=24",
        "method.backbone=tiny_resnet",
        "method.queue_size=128",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
        "hydra.run.dir=photos",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    metrics = columns(tmp_path / "photos")
    assert len(metrics["train/loss"]) == 8
    assert np.isfinite(metrics["train/loss"]).all()
    assert len(metrics["val/pointing"]) == 2
    assert "val/knn" not in metrics, "these photographs have no labels"
    assert np.asarray(Image.open(tmp_path / "photos" / "gradcam.png")).std() > 20
    assert "data.size=64" in recommended(result), "it evaluates what was trained"
    evaluation = typed(recommended(result), "hydra.run.dir=e", cwd=tmp_path)
    assert evaluation.returncode == 0, evaluation.stderr
    results = json.loads((tmp_path / "e" / "results.json").read_text())["results"]
    assert results["pretext"]["images"] == 47
    assert 0 < results["pretext"]["iou"] < 1


def test_ranks_end_with_equal_state(run_program, repository, tmp_path):
    result = run_program(
        "train",
        "+experiment=cast_mocov2",
        "trainer=ddp",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "+callbacks.states._target_=rank_states.RankStates",
        f"+callbacks.states.folder={tmp_path}",
        "method.queue_size=20",
        "hydra.run.dir=ddp",
        *TINY,
        cwd=tmp_path,
        PYTHONPATH=str(repository / "tests" / "support"),
        CASTLIT_TESTS_FORK_RANKS="1",
    )
    assert result.returncode == 0, result.stderr
    # Lightning's lines are no part of the program's output, nor of the run's log.
    assert "GLOBAL_RANK: 0, MEMBER: 1/2" in result.stderr
    assert "GLOBAL_RANK" not in result.stdout + (tmp_path / "ddp" / "train.log").read_text()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    running = ("running_mean", "running_var", "num_batches_tracked")  # These depend on each rank's batches.
    compared = [name for name in first if not name.endswith(running)]
    assert {"method.queue.keys", "method.queue.pointer"} <= set(compared)
    for name in compared:
        assert torch.equal(first[name], second[name]), name
    # 3 steps of 2 ranks of 8 keys each, in a queue of 20.
    assert first["method.queue.pointer"].item() == 3 * 16 % 20
    assert json.loads((tmp_path / "ddp" / "summary.json").read_text())["world_size"] == 2


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(run_program, tmp_path, precision):
    result = run_program(
        "train", "trainer.max_epochs=1", f"trainer.precision={precision}", "hydra.run.dir=r", *TINY, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert np.isfinite(columns(tmp_path / "r")["train/loss"]).all()


def test_resume_from_next_epoch(run_program, tmp_path):
    first = run_program("train", "trainer.max_epochs=1", "hydra.run.dir=first", *TINY, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = run_program(
        "train",
        "trainer.max_epochs=2",
        "hydra.run.dir=second",
        "resume=first/checkpoints/last.ckpt",
        *TINY,
        cwd=tmp_path,
    )
    assert second.returncode == 0, second.stderr
    assert len(columns(tmp_path / "second")["train/loss"]) == 6
    assert json.loads((tmp_path / "second" / "summary.json").read_text())["steps"] == 12
