"""The scripts of examples/ that train modules of other libraries."""

import re

import pytest


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
