"""python -m castlit.compare, as its user types it."""

import json
import sys

import pytest

from castlit.compare import folders_as_runs, main
from castlit.utils.validation import InputError


@pytest.fixture
def sweep(made_run, tmp_path):
    for i, weight in enumerate((0, 1, 3)):
        made_run(tmp_path / "multi run" / str(i), ["attention.weight"], (0.1, 0.2 + i / 10), attention__weight=weight)
    made_run(tmp_path / "multi run" / "3", ["attention.weight"], summary=False, attention__weight=10)
    return tmp_path


def test_a_folder_becomes_a_table_and_files(run_program, sweep):
    result = run_program("compare", "multi run", cwd=sweep)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["2", "1", "0", "3"]
    assert [row[3] for row in rows] == ["3", "1", "0", "10"]
    assert "3: broken off" in result.stdout
    folder = sweep / "multi run" / "compare"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"compare.{end}" for end in ("csv", "html", "json", "png")
    ]
    assert not (sweep / ".hydra").exists()
    assert not list(sweep.glob("*.log"))


def run(monkeypatch, capfd, folder, *words):
    """In this process: what is printed, and the exit code."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["castlit.compare", *map(str, words)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    captured = capfd.readouterr()
    return code or 0, captured.out, captured.err


def test_several_folders_another_figure_and_another_place(monkeypatch, capfd, sweep):
    words = ["multi run/0", "multi run/2", "sort=train/loss", "output=else where"]
    code, out, err = run(monkeypatch, capfd, sweep, *words)
    assert code == 0, err
    assert "2 runs by train/loss" in out
    plain = json.loads((sweep / "else where" / "compare.json").read_text())
    assert [run["run"] for run in plain["runs"]] == ["0", "2"]
    assert run(monkeypatch, capfd, sweep, 'runs=["multi run/0","multi run/2"]')[0] == 0
    assert (sweep / "compare" / "compare.json").is_file(), "what comes of several folders lies here"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["no such"], "no such does not exist"),
        (["nothing"], "nothing holds no run of castlit.train"),
        (["multi run", "sort=val/kn"], "sort=val/kn: no run has this figure; there are val/knn"),
        (["multi run", "runs=x"], "runs= and multi run: give the folders in one way"),
        ([], "runs must be given"),
        (["runs=[]"], "runs: give a folder of runs"),
    ],
)
def test_mistakes_are_told_in_one_line(monkeypatch, capfd, sweep, words, told):
    (sweep / "nothing").mkdir()
    code, _, err = run(monkeypatch, capfd, sweep, *words)
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert told in err


def test_a_broken_summary_is_named(monkeypatch, capfd, sweep):
    (sweep / "multi run" / "1" / "summary.json").write_text('{"epochs": ')
    code, _, err = run(monkeypatch, capfd, sweep, "multi run")
    assert code == 1
    assert err.startswith("error: multi run/1/summary.json is broken")
    assert len(err.strip().splitlines()) == 1


def test_words_that_are_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "attention.weight=1").mkdir()
    assert folders_as_runs(["a", "sort=val/knn", "b c"]) == ["sort=val/knn", "runs=['a','b c']"]
    assert folders_as_runs(["attention.weight=1"]) == ["runs=['attention.weight=1']"]
    for hydras in (["--cfg", "job"], ["-c", "job"], ["--config-dir", "mine", "runs=a"], ["+x=1", "~sort", "--help"]):
        assert folders_as_runs(hydras) == hydras
    with pytest.raises(InputError):
        folders_as_runs(["a", "runs=b"])
