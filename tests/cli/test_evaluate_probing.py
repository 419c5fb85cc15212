"""``castlit.evaluate +protocol=linear, finetune, knn`` from the command line."""

import json
import re

import numpy as np
import pytest
from PIL import Image

SUBJECT = ["checkpoint=random", "backbone=tiny_resnet", "hydra.run.dir=run"]


@pytest.fixture
def folders(tmp_path):
    """ImageNet's layout: 6 + 4 images of each of two classes, which differ in colour."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4)):
        for name, ink in {"apple": (220, 60, 60), "kiwi": (60, 220, 60)}.items():
            place = tmp_path / "imagenet" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(ink) + rng.normal(0, 20, (48, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.jpg")
    return tmp_path / "imagenet"


def results_of(tmp_path):
    return json.loads((tmp_path / "run" / "results.json").read_text())["results"]


def test_linear_and_resume(run_program, folders, tmp_path):
    words = ["+protocol=linear", *SUBJECT, f"data.root={folders}", "protocol.size=32", "protocol.batch_size=4"]
    words += ["protocol.epochs=2", "protocol.drops=[1]", "protocol.trainer.precision=bf16-mixed"]
    words += ["protocol.trainer.log_every_n_steps=1"]
    result = run_program("evaluate", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "litlogger" not in result.stderr  # Lightning's advertisement
    first = results_of(tmp_path)
    assert set(first) == {"top1", "top5"}
    assert first["top5"] == 100  # of two classes
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert "train/loss" in (tmp_path / "run" / "metrics.csv").read_text()
    # How far it is, and how to open the log, in a file as on a terminal.
    log = (tmp_path / "run" / "evaluate.log").read_text()
    for written in (result.stdout, log):
        assert re.search(r"Epoch 2 of 2, step 6 of 6: train/loss \d+\.\d{3}; [\d.]+ images/s, 0:00:00 left\n", written)
        assert re.search(r"Validation: val/top1 \d+\.000, val/top5 100\.000; it took 0:", written)
    assert "Metrics: run/metrics.csv\n" in result.stdout
    again = run_program("evaluate", *words, "protocol.resume=last", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert results_of(tmp_path) == first
    other = run_program("evaluate", *words, "protocol.resume=last", "protocol.lr=7", cwd=tmp_path)
    assert other.returncode == 1
    assert "is of another run: lr was 30.0, not 7" in other.stderr


def test_two_processes(run_program, folders, tmp_path):
    words = ["+protocol=linear", *SUBJECT, f"data.root={folders}", "protocol.size=32", "protocol.batch_size=4"]
    words += ["protocol.epochs=1", "protocol.workers=0"]
    words += ["protocol.trainer.accelerator=cpu", "protocol.trainer.devices=2"]
    result = run_program("evaluate", *words, cwd=tmp_path, CASTLIT_TESTS_FORK_RANKS="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("val/top1") == result.stdout.count("Written to") == 1
    assert result.stdout.count("top1") == 2, "in the log and in the table, by one process"
    assert results_of(tmp_path)["top5"] == 100
    # A broken image stops both processes, whichever reads it.
    for file in (folders / "val" / "kiwi").iterdir():
        file.write_bytes(b"\xff\xd8 none")
    result = run_program("evaluate", *words, cwd=tmp_path, timeout=120, CASTLIT_TESTS_FORK_RANKS="1")
    assert result.returncode != 0
    assert "repair or remove this file" in result.stderr


def test_finetune_on_half_the_labels(run_program, folders, tmp_path):
    words = ["+protocol=finetune", *SUBJECT, f"data.root={folders}", "protocol.size=32", "protocol.batch_size=4"]
    result = run_program("evaluate", *words, "protocol.labels=0.5", "protocol.epochs=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert set(results_of(tmp_path)) == {"top1", "top5"}


def test_knn_and_missing_split(run_program, folders, tmp_path):
    words = ["+protocol=knn", *SUBJECT]
    result = run_program("evaluate", *words, "protocol.train_count=60", "protocol.test_count=20", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert set(results_of(tmp_path)) == {"top1/k=20", "top1/k=200"}
    (folders / "val").rename(folders / "test")
    result = run_program("evaluate", *words, f"data.root={folders}", cwd=tmp_path)
    assert result.returncode == 1
    assert "lacks val: there must be train/<class>/ and val/<class>/" in result.stderr
    assert "Traceback" not in result.stderr
