"""``castlit.bench gpu``, rehearsed on the CPU at a tiny size: every part, a part that fails, and one that hangs."""

import json

import pytest

from castlit.bench.gpu.run import PARTS
from castlit.bench.gpu.step import covered

TINY = ["backbone=tiny_resnet", "size=32", "batch_size=8", "queue_size=16", "precision=32", "steps=6", "photographs=8"]


@pytest.mark.nightly
def test_rehearsal(run_program, tmp_path):
    tests = tmp_path / "theirs"
    tests.mkdir()
    (tests / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: needs one\n")
    (tests / "test_some.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n\ndef test_right(): pass\n\ndef test_wrong(): assert 0\n"
    )
    limits = [f"limits.{name}=200" for name in PARTS]
    done = run_program(
        "bench",
        "gpu",
        *TINY,
        f"tests={tests}",
        *limits,
        "output=rows/gpu.json",
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "rows" / "gpu.json").read_text())
    parts = row["parts"]
    assert row["benchmark"] == "gpu"
    assert list(parts) == list(PARTS)
    assert not [name for name, part in parts.items() if "failed" in part and name != "tests"], parts
    assert (parts["tests"]["passed"], parts["tests"]["failed"]) == (1, 1)
    assert parts["tests"]["names_of_failed"] == ["test_some::test_wrong"]
    assert parts["step"]["ratio_to_moco"]["moco"] == 1
    assert parts["views"]["images_per_s"] > 0
    assert 0 <= parts["training"]["loader_wait"] <= 1
    assert parts["training"]["steps"] == 4
    assert parts["interrupted"]["equal"]
    assert 10 <= parts["interrupted"]["killed_at_step"] < 24
    assert parts["two_processes"]["equal"], parts["two_processes"]["different"]


def test_failure_and_time_limit_do_not_stop_the_others(run_program, tmp_path):
    words = ["parts=[views,step,tests]", "backbone=no_such_network", "limits.views=0.5"]
    done = run_program("bench", "gpu", *TINY[1:], *words, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    parts = json.loads(done.stdout)["parts"]
    assert parts["views"]["failed"] == "took longer than 0.5 s"
    assert "no_such_network" in parts["step"]["failed"]
    assert "no folder of tests" in parts["tests"]["left_out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("parts=[views,speed]", "there is no 'speed'"),
        ("limits.views=-1", "limits.views"),
        ("size=3", "size must be"),
    ],
)
def test_invalid_values(run_program, tmp_path, words, message):
    done = run_program("bench", "gpu", words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr


def test_overlapping_kernels_count_once():
    assert covered([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]) == 4
    assert covered([]) == 0
