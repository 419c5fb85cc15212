"""The scripts of examples/: those that train modules of other libraries, and the gallery."""

import re

import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_attention_in_lightlys_methods(run_python, repository, tmp_path, name):
    pytest.importorskip("lightly")
    script = repository / "examples" / f"{name}.py"
    words = ["--epochs", "1", "--train-count", "16", "--batch-size", "8", "--accelerator", "cpu"]
    done = run_python(script, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^(train/\w+) ([\d.]+)$", done.stdout, re.MULTILINE))
    assert float(found["train/loss"]) > 0
    assert 0 < float(found["train/attention"]) < 1
    assert 0 <= float(found["train/pointing"]) <= 1


def test_gallery(run_program, run_python, repository, tmp_path):
    """Two runs of few steps become one picture: image, mask, and before and after of each."""
    small = ("data.train_count=64", "data.val_count=64", "data.batch_size=16", "data.workers=0", "method.queue_size=32")
    small += ("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "callbacks.panel.count=5", "logger=none")
    for name, words in (("moco", ["mocov2"]), ("cast", ["cast_mocov2"]), ("other", ["cast_mocov2", "seed=1"])):
        words = [f"+experiment={words[0]}", *words[1:], *small, f"hydra.run.dir={name}"]
        done = run_program("train", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    script = repository / "examples" / "gallery.py"
    # Image, mask, before, after and a classifier for each; runs of two seeds began differently.
    cases = [(["cast"], [], 7), (["cast", "other"], [], 10), (["cast"], ["--rows", "features"], 4)]
    for others, words, count in cases:
        done = run_python(script, "moco", *others, "gallery.png", "--height", "32", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        picture = np.asarray(Image.open(tmp_path / "gallery.png")).astype(int)
        height, left = 32 + 6, 132
        assert picture.shape == (40 + count * height + 34, left + 5 * height + 6, 3)
        rows = [picture[40 + i * height : 40 + i * height + 32, left:] for i in range(count)]
        for i, row in enumerate(rows):
            assert all(np.abs(row - other).mean() > 1 for other in rows[:i]), "two rows are alike"


def test_gallery_refuses_other_data(run_python, repository, tmp_path):
    script = repository / "examples" / "gallery.py"
    done = run_python(script, "nothing", "nowhere", "gallery.png", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: nothing: no folder of a run of castlit.train (it has no config.yaml)"]
