"""Runs found below folders, their states and metrics."""

import subprocess
import sys

import pytest

from castlit.experiments.comparison import compare_runs
from castlit.experiments.read_runs import read_runs
from castlit.utils.validation import InputError


def test_end_best_and_curve(made_run, tmp_path):
    made_run(tmp_path / "a", knn=(0.1, 0.5, 0.4), loss=2.0)
    (run,) = read_runs([tmp_path])
    assert run.curves == {"val/knn": {0: 0.1, 1: 0.5, 2: 0.4}}
    assert run.metrics == {"val/knn": 0.4, "val/knn:best": 0.5, "train/loss": 2.0}
    assert (run.name, run.state, run.epochs, run.seconds) == ("a", "done", 2, 12.5)


def test_validation_after_fit(made_run, tmp_path):
    # Every third epoch is validated, and the weights at the end, as castlit.train does it.
    folder = made_run(tmp_path / "a")
    rows = ["epoch,step,train/loss,val/knn", "0,0,,0.1", *(f"{e},{4 * e + 3},5," for e in range(3)), "2,11,,0.2"]
    (folder / "metrics.csv").write_text("\n".join([*rows, "3,15,5,", "4,16,,0.3"]) + "\n")
    assert read_runs([tmp_path])[0].curves["val/knn"] == {0: 0.1, 3: 0.2, 4: 0.3}


def test_folders_without_a_run(made_run, tmp_path, caplog):
    """A shell's pattern for the folders of a day: trainings and evaluations."""
    made_run(tmp_path / "day" / "a")
    other = tmp_path / "day" / "b"
    (other / ".hydra").mkdir(parents=True)
    (other / ".hydra" / "hydra.yaml").write_text("hydra: {job: {name: evaluate}}")
    (other / "results.json").write_text("{}")
    assert [run.name for run in read_runs(sorted((tmp_path / "day").iterdir()))] == ["a"]
    assert f"left out, without a run of castlit.train: {other}" in caplog.text
    with pytest.raises(InputError, match=r"/b contains no run of castlit.train"):
        read_runs([other])
    with pytest.raises(InputError, match=r"^no run of castlit.train is in \S+/b, \S+/b: give"):
        read_runs([other, other])


def test_states(made_run, tmp_path):
    why = {"epoch": 1, "figure": "val/knn", "best": 0.1, "median": 0.4, "runs": 5}
    made_run(tmp_path / "0")
    made_run(tmp_path / "1", pruned=why)
    made_run(tmp_path / "2", summary=False, knn=(0.1, 0.2))
    (made_run(tmp_path / "3", summary=False) / "bad_batch.json").write_text("{}")
    early = made_run(tmp_path / "4", summary=False)
    for name in ("config.yaml", "metrics.csv"):
        (early / name).unlink()
    # Killed when only a checkpoint was written.
    killed = made_run(tmp_path / "5", summary=False)
    (killed / "metrics.csv").unlink()
    (killed / "checkpoints").mkdir()
    (killed / "checkpoints" / "last.ckpt").touch()
    runs = {run.name: run for run in read_runs([tmp_path])}
    states = {name: run.state for name, run in runs.items()}
    stopped = "interrupted"
    assert states == {"0": "done", "1": "pruned", "2": stopped, "3": "failed", "4": "failed", "5": stopped}
    assert runs["1"].note == "val/knn was at most 0.1, the median of 5 finished runs 0.4"
    assert "after 1 of 1 epochs" in runs["2"].note
    assert "bad_batch.json" in runs["3"].note
    assert [run.name for run in compare_runs(list(runs.values())).runs[:2]] == ["0", "1"]
    assert len(compare_runs(list(runs.values())).runs) == 6
    assert [run.name for group in compare_runs(list(runs.values())).groups for run in group.runs] == ["0"]


@pytest.mark.skipif(sys.platform == "win32", reason="the lock is POSIX's")
def test_locked_run_is_running(made_run, tmp_path):
    folder = made_run(tmp_path / "a")
    code = (
        "import sys; from pathlib import Path; from castlit.utils.locking import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert read_runs([tmp_path])[0].state == "running"
        process.stdin.close()
    assert read_runs([tmp_path])[0].state == "done"


def test_nested_runs_in_natural_order(made_run, tmp_path):
    for number in (10, 9, 0):
        made_run(tmp_path / "multirun" / "day" / str(number))
    made_run(tmp_path / "studies" / "runs" / "cast" / "seed_0")
    # An evaluation's folder is no run.
    (tmp_path / "studies" / "evaluation" / ".hydra").mkdir(parents=True)
    (tmp_path / "studies" / "evaluation" / ".hydra" / "hydra.yaml").write_text("hydra: {job: {name: evaluate}}")
    (tmp_path / "studies" / "evaluation" / "results.json").write_text("{}")
    names = [run.name for run in read_runs([tmp_path, tmp_path / "multirun" / "day" / "9"])]
    assert names == [*(f"multirun/day/{number}" for number in (0, 9, 10)), "studies/runs/cast/seed_0"]
    assert [run.name for run in read_runs([tmp_path / "multirun" / "day" / "9"])] == ["9"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("summary.json", "{", "summary.json is broken"),
        ("summary.json", "[]", "summary.json is broken"),
        ("summary.json", '{"epochs": 3, "seconds": 1, "metrics": {"val/knn": 3}}', "summary.json is broken"),
        ("summary.json", '{"epochs": 3, "seconds": 1, "metrics": {}, "pruned": true}', "summary.json is broken"),
        ("metrics.csv", "epoch,step,val/knn\n0,0,much\n", "metrics.csv is broken"),
    ],
)
def test_broken_files_are_named(made_run, tmp_path, name, content, words):
    (made_run(tmp_path / "a") / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read_runs([tmp_path])


def test_no_runs(tmp_path):
    with pytest.raises(InputError, match="contains no run"):
        read_runs([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        read_runs([tmp_path / "no"])
