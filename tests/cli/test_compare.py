"""castlit.compare from the command line."""

import json
import sys

import pytest

from castlit.compare import main
from castlit.experiments.folder_arguments import folders_as_runs
from castlit.utils.validation import InputError


@pytest.fixture
def sweep(made_run, tmp_path):
    for i, weight in enumerate((0, 1, 3)):
        made_run(tmp_path / "multi run" / str(i), ["attention.weight"], (0.1, 0.2 + i / 10), attention__weight=weight)
    made_run(tmp_path / "multi run" / "3", ["attention.weight"], summary=False, attention__weight=10)
    return tmp_path


def test_table_and_files(run_program, sweep):
    result = run_program("compare", "multi run", cwd=sweep)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["2", "1", "0", "3"]
    assert [row[3] for row in rows] == ["3", "1", "0", "10"]
    assert "3: interrupted" in result.stdout
    folder = sweep / "multi run" / "compare"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"compare.{end}" for end in ("csv", "html", "json", "png")
    ]
    assert not (sweep / ".hydra").exists()
    assert not list(sweep.glob("*.log"))


def run(monkeypatch, capfd, folder, *words):
    """Run in this process; return exit code, output and errors."""
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


def test_several_folders_sort_and_output(monkeypatch, capfd, sweep):
    words = ["multi run/0", "multi run/2", "sort=train/loss", "output=else where"]
    code, out, err = run(monkeypatch, capfd, sweep, *words)
    assert code == 0, err
    assert "2 runs by train/loss" in out
    plain = json.loads((sweep / "else where" / "compare.json").read_text())
    assert [run["run"] for run in plain["runs"]] == ["0", "2"]
    assert run(monkeypatch, capfd, sweep, 'runs=["multi run/0","multi run/2"]')[0] == 0
    assert (sweep / "compare" / "compare.json").is_file(), "of several folders, in the current one"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no such"], "no such does not exist"),
        (["nothing"], "nothing contains no run of castlit.train"),
        (["multi run", "sort=val/kn"], "sort=val/kn: no run has this metric; there are val/knn"),
        (["multi run", "runs=x"], "runs= and multi run: give the folders in one way"),
        ([], "runs must be given"),
        (["runs=[]"], "runs: give a folder of runs"),
        # Before the work: no table is printed.
        (["multi run", "output=multi run/0/metrics.csv"], "output=multi run/0/metrics.csv is a file: give a folder"),
    ],
)
def test_one_line_errors(monkeypatch, capfd, sweep, words, message):
    (sweep / "nothing").mkdir()
    code, out, err = run(monkeypatch, capfd, sweep, *words)
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err


def test_broken_summary_is_named(monkeypatch, capfd, sweep):
    (sweep / "multi run" / "1" / "summary.json").write_text('{"epochs": ')
    code, _, err = run(monkeypatch, capfd, sweep, "multi run")
    assert code == 1
    assert err.startswith("error: multi run/1/summary.json is broken")
    assert len(err.strip().splitlines()) == 1


def test_folders_as_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "attention.weight=1").mkdir()
    assert folders_as_runs(["a", "sort=val/knn", "b c"]) == ["sort=val/knn", "runs=['a','b c']"]
    assert folders_as_runs(["attention.weight=1"]) == ["runs=['attention.weight=1']"]
    for hydras in (["--cfg", "job"], ["-c", "job"], ["--config-dir", "mine", "runs=a"], ["+x=1", "~sort", "--help"]):
        assert folders_as_runs(hydras) == hydras
    with pytest.raises(InputError):
        folders_as_runs(["a", "runs=b"])
