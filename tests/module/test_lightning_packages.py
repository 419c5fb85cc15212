"""castlit under each of Lightning's two packages, pytorch_lightning and lightning."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("lightning_package.py")
IMPORTS = re.compile(r"^\s*(?:import|from) (?:pytorch_lightning|lightning|lightning_fabric)\b", re.MULTILINE)


def fresh(words, folder):
    """A Python that has imported nothing."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_both_packages_train_alike(run_python, tmp_path):
    outputs = {}
    for package in ("pytorch_lightning", "lightning.pytorch"):
        folder = tmp_path / package
        folder.mkdir()
        if package == "pytorch_lightning":
            done = run_python(SCRIPT, package, cwd=folder, PYTHONPATH=str(SCRIPT.parents[1]))
            assert done.returncode == 0, done.stderr
        else:
            done = fresh([SCRIPT, package], folder)
        outputs[package] = json.loads(done.stdout.splitlines()[-1])
    old, new = outputs.values()
    assert new.pop("packages") == ["lightning.pytorch"], "the other is not even loaded"
    assert old.pop("packages") == ["lightning_fabric", "pytorch_lightning"]
    assert {"train/loss", "train/attention"} <= set(new["resumed"])
    assert {"train/attention", "train/pointing"} <= set(new["supervised"])
    for part, metrics in old.items():
        assert new[part] == pytest.approx(metrics, abs=1e-5)


def test_lightning_after_castlit_is_warned_of(tmp_path):
    """Its trainer would refuse castlit's modules in words that name neither package."""
    code = "import castlit.utils.lightning, lightning, lightning.pytorch"
    printed = fresh(["-c", code], tmp_path).stderr
    assert printed.count("import lightning before castlit") == 1


def test_one_file_chooses_the_package(repository):
    found = [
        path.relative_to(repository).as_posix()
        for path in (repository / "src" / "castlit").rglob("*.py")
        if IMPORTS.search(path.read_text())
    ]
    assert found == ["src/castlit/utils/lightning.py"]
