"""Runs as rows: what became of them, their order, and what seeds say together; on folders whose answer is known."""

import csv
import json
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest

from castlit.experiments.comparison_report import write_comparison
from castlit.experiments.comparison_table import compare, rows_of_groups, rows_of_runs
from castlit.experiments.read_runs import read_runs
from castlit.utils.validation import InputError


def compared(tmp_path, sort=None):
    return compare(read_runs([tmp_path]), sort)


class TestRuns:
    def test_end_best_and_curve(self, made_run, tmp_path):
        made_run(tmp_path / "a", knn=(0.1, 0.5, 0.4), loss=2.0)
        (run,) = read_runs([tmp_path])
        assert run.curves == {"val/knn": {0: 0.1, 1: 0.5, 2: 0.4}}
        assert run.figures == {"val/knn": 0.4, "val/knn:best": 0.5, "train/loss": 2.0}
        assert (run.name, run.state, run.epochs, run.seconds) == ("a", "done", 2, 12.5)

    def test_the_validation_after_the_fit_is_that_of_the_last_epoch(self, made_run, tmp_path):
        # Every third epoch is validated, and the weights at the end, as castlit.train does it.
        folder = made_run(tmp_path / "a")
        rows = ["epoch,step,train/loss,val/knn", "0,0,,0.1", *(f"{e},{4 * e + 3},5," for e in range(3)), "2,11,,0.2"]
        (folder / "metrics.csv").write_text("\n".join([*rows, "3,15,5,", "4,16,,0.3"]) + "\n")
        assert read_runs([tmp_path])[0].curves["val/knn"] == {0: 0.1, 3: 0.2, 4: 0.3}

    def test_what_became_of_each_is_told_and_none_is_dropped(self, made_run, tmp_path):
        why = {"epoch": 1, "figure": "val/knn", "best": 0.1, "median": 0.4, "runs": 5}
        made_run(tmp_path / "0")
        made_run(tmp_path / "1", pruned=why)
        made_run(tmp_path / "2", summary=False, knn=(0.1, 0.2))
        (made_run(tmp_path / "3", summary=False) / "bad_batch.json").write_text("{}")
        early = made_run(tmp_path / "4", summary=False)
        for name in ("config.yaml", "metrics.csv"):
            (early / name).unlink()
        # Begun, and killed before anything but a checkpoint reached the disk.
        killed = made_run(tmp_path / "5", summary=False)
        (killed / "metrics.csv").unlink()
        (killed / "checkpoints").mkdir()
        (killed / "checkpoints" / "last.ckpt").touch()
        runs = {run.name: run for run in read_runs([tmp_path])}
        states = {name: run.state for name, run in runs.items()}
        broken = "broken off"
        assert states == {"0": "done", "1": "pruned", "2": broken, "3": "failed", "4": "failed", "5": broken}
        assert runs["1"].note == "val/knn was at most 0.1, the median of 5 finished runs 0.4"
        assert "after 1 of 1 epochs" in runs["2"].note
        assert "bad_batch.json" in runs["3"].note
        assert [run.name for run in compared(tmp_path).runs[:2]] == ["0", "1"]
        assert len(compared(tmp_path).runs) == 6
        assert [run.name for group in compared(tmp_path).groups for run in group.runs] == ["0"]

    @pytest.mark.skipif(sys.platform == "win32", reason="the lock is POSIX's")
    def test_a_run_that_another_process_trains_is_running(self, made_run, tmp_path):
        folder = made_run(tmp_path / "a")
        code = (
            "import sys; from pathlib import Path; from castlit.utils.locking import holding\n"
            "with holding(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            assert read_runs([tmp_path])[0].state == "running"
            process.stdin.close()
        assert read_runs([tmp_path])[0].state == "done"

    def test_at_any_depth_each_once_ten_after_nine(self, made_run, tmp_path):
        for number in (10, 9, 0):
            made_run(tmp_path / "multirun" / "day" / str(number))
        made_run(tmp_path / "studies" / "runs" / "cast" / "seed_0")
        # What an evaluation leaves is no run.
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
    def test_broken_files_are_named(self, made_run, tmp_path, name, content, words):
        (made_run(tmp_path / "a") / name).write_text(content)
        with pytest.raises(InputError, match=words):
            read_runs([tmp_path])

    def test_no_runs(self, tmp_path):
        with pytest.raises(InputError, match="holds no run"):
            read_runs([tmp_path])
        with pytest.raises(InputError, match="does not exist"):
            read_runs([tmp_path / "no"])


class TestOrder:
    def test_the_best_first(self, made_run, tmp_path):
        made_run(tmp_path / "a", knn=(0, 0.9, 0.2), loss=3.0)
        made_run(tmp_path / "b", knn=(0, 0.1, 0.4), loss=2.0)
        made_run(tmp_path / "c", knn=(0, 0.1, 0.3), loss=1.0)

        def order(sort=None):
            return "".join(run.name for run in compared(tmp_path, sort).runs)

        assert order() == order("val/knn") == "bca"
        assert order("val/knn:best") == "abc"
        assert order("train/loss") == "cba"

    def test_a_run_without_the_figure_comes_last(self, made_run, tmp_path):
        made_run(tmp_path / "a", knn=("nan", "nan"), summary=False)
        made_run(tmp_path / "b", knn=(0.1, 0.2), summary=False)
        assert [run.name for run in compared(tmp_path).runs] == ["b", "a"]

    def test_the_best_of_a_curve_is_not_what_is_no_number(self, made_run, tmp_path):
        made_run(tmp_path / "a", knn=("nan", 0.5, 0.4))
        (run,) = compared(tmp_path).runs
        assert run.figures["val/knn:best"] == 0.5

    def test_an_unknown_figure_is_told_with_those_there_are(self, made_run, tmp_path):
        made_run(tmp_path / "a")
        with pytest.raises(InputError, match=r"there are val/knn, .*did you mean 'val/knn'"):
            compared(tmp_path, "val/kn")


class TestSeeds:
    def test_mean_and_interval(self, made_run, tmp_path):
        for seed, value in enumerate((0.2, 0.4, 0.6)):
            made_run(tmp_path / f"a{seed}", ["seed", "attention.weight"], (0, value), seed=seed, attention__weight=1)
        made_run(tmp_path / "b0", ["attention.weight"], (0, 0.5), attention__weight=2)
        what = compared(tmp_path)
        assert [(group.settings, group.seeds) for group in what.groups] == [
            ({"attention.weight": 2}, 1),
            ({"attention.weight": 1}, 3),
        ]
        mean, half_width, seeds = what.groups[1].estimate("val/knn")
        assert mean == pytest.approx(0.4)
        # Student's t with 2 degrees of freedom, 97.5 %: 4.302653; times 0.2 / √3.
        assert half_width == pytest.approx(4.302653 * 0.2 / math.sqrt(3), rel=1e-6)
        assert seeds == 3
        header, rows = rows_of_groups(what)
        assert header[:3] == ["attention.weight", "seeds", "val/knn"]
        assert rows[0][:3] == ["2", "1", "0.500"]
        assert rows[1][:3] == ["1", "3", "0.400 ± 0.497"]

    def test_the_same_run_twice_is_one_witness(self, made_run, tmp_path):
        for name, seed, value in (("a", 0, 0.2), ("b", 0, 0.4), ("c", 1, 0.5)):
            made_run(tmp_path / name, ["seed"], (0, value), seed=seed)
        (group,) = compared(tmp_path).groups
        assert group.seeds == 2
        assert sorted(group.values("val/knn")) == pytest.approx([0.3, 0.5])

    def test_one_and_one_point_zero_are_seeds_of_one_setting(self, made_run, tmp_path):
        for name, seed, weight in (("a", 0, 3), ("b", 1, 3.0), ("c", 0, 1)):
            made_run(tmp_path / name, ["seed", "attention.weight"], seed=seed, attention__weight=weight)
        assert sorted(group.seeds for group in compared(tmp_path).groups) == [1, 2]

    def test_a_pruned_run_is_in_no_mean(self, made_run, tmp_path):
        why = {"epoch": 1, "figure": "val/knn", "best": 0.1, "median": 0.4, "runs": 5}
        made_run(tmp_path / "a", ["seed"], (0, 0.8), seed=0)
        made_run(tmp_path / "b", ["seed"], (0, 0.1), seed=1, pruned=why)
        (group,) = compared(tmp_path).groups
        assert group.estimate("val/knn") == (0.8, None, 1)


class TestFiles:
    def test_csv_json_and_page(self, made_run, tmp_path):
        made_run(tmp_path / "a", ["attention.weight"], (0, 1 / 3), attention__weight=0.1)
        made_run(tmp_path / "b", ["attention.weight"], (0, "nan"), attention__weight=2, summary=False)
        what = compared(tmp_path)
        page = write_comparison(tmp_path / "out", what, ["<a&b>"])
        with (tmp_path / "out" / "compare.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["run"] for row in rows] == ["a", "b"]
        assert float(rows[0]["val/knn"]) == 1 / 3, "in full precision"
        assert float(rows[0]["attention.weight"]) == 0.1
        plain = json.loads((tmp_path / "out" / "compare.json").read_text(), parse_constant=pytest.fail)
        assert plain["runs"][0]["curves"] == {"val/knn": {"0": 0.0, "1": 1 / 3}}
        assert plain["runs"][1]["figures"]["val/knn"] is None
        assert plain["groups"] == [
            {
                "settings": {"attention.weight": 0.1},
                "seeds": [0],
                "runs": ["a"],
                "figures": {
                    "val/knn": {"mean": 1 / 3, "half_width_95": None},
                    "val/knn:best": {"mean": 1 / 3, "half_width_95": None},
                    "train/loss": {"mean": 5.0, "half_width_95": None},
                },
            }
        ]
        assert "&lt;a&amp;b&gt;" in page.read_text()
        assert "broken off" in page.read_text()
        header, table = rows_of_runs(what)
        assert dict(zip(header, table[0], strict=True))["attention.weight"] == "0.1"

    @pytest.mark.parametrize("key", ["attention__weight", "name", None])
    def test_a_picture_of_whatever_differs(self, made_run, tmp_path, key):
        widths = []
        for count in (1, 3):
            for i in range(count):
                made_run(tmp_path / str(count) / str(i), **({key: f"n{i}" if key == "name" else i} if key else {}))
            write_comparison(tmp_path / "out", compared(tmp_path / str(count)), ["x"])
            picture = cv2.imread(str(tmp_path / "out" / "compare.png"))
            assert np.std(picture) > 5
            widths.append(picture.shape[1])
        assert widths[0] == widths[1]

    def test_two_swept_numbers_get_a_panel_each(self, made_run, tmp_path):
        for i in range(3):
            made_run(tmp_path / str(i), attention__weight=i, optimizer__lr=0.1**i)
        write_comparison(tmp_path / "out", compared(tmp_path), ["x"])
        two = cv2.imread(str(tmp_path / "out" / "compare.png")).shape[1]
        for i in range(3):
            made_run(tmp_path / str(i), attention__weight=i)
        write_comparison(tmp_path / "out", compared(tmp_path), ["x"])
        one = cv2.imread(str(tmp_path / "out" / "compare.png")).shape[1]
        assert two > one + 300

    def test_no_run_is_done(self, made_run, tmp_path):
        made_run(tmp_path / "a", summary=False)
        write_comparison(tmp_path / "out", compared(tmp_path), ["x"])
        assert (tmp_path / "out" / "compare.html").is_file()
