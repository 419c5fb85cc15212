"""Order, groups of seeds and files of a comparison, on folders with known metrics."""

import csv
import json
import math

import cv2
import numpy as np
import pytest

from castlit.experiments.comparison import compare_runs
from castlit.experiments.comparison_report import write_comparison
from castlit.experiments.comparison_tables import group_table, run_table
from castlit.experiments.read_runs import read_runs
from castlit.utils.validation import InputError


def compared(tmp_path, sort=None):
    return compare_runs(read_runs([tmp_path]), sort)


class TestOrder:
    def test_best_first(self, made_run, tmp_path):
        made_run(tmp_path / "a", knn=(0, 0.9, 0.2), loss=3.0)
        made_run(tmp_path / "b", knn=(0, 0.1, 0.4), loss=2.0)
        made_run(tmp_path / "c", knn=(0, 0.1, 0.3), loss=1.0)

        def order(sort=None):
            return "".join(run.name for run in compared(tmp_path, sort).runs)

        assert order() == order("val/knn") == "bca"
        assert order("val/knn:best") == "abc"
        assert order("train/loss") == "cba"

    def test_run_without_the_metric_comes_last(self, made_run, tmp_path):
        made_run(tmp_path / "a", knn=("nan", "nan"), summary=False)
        made_run(tmp_path / "b", knn=(0.1, 0.2), summary=False)
        assert [run.name for run in compared(tmp_path).runs] == ["b", "a"]

    def test_best_ignores_nan(self, made_run, tmp_path):
        made_run(tmp_path / "a", knn=("nan", 0.5, 0.4))
        (run,) = compared(tmp_path).runs
        assert run.metrics["val/knn:best"] == 0.5

    def test_unknown_metric(self, made_run, tmp_path):
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
        header, rows = group_table(what)
        assert header[:3] == ["attention.weight", "seeds", "val/knn"]
        assert rows[0][:3] == ["2", "1", "0.500"]
        assert rows[1][:3] == ["1", "3", "0.400 ± 0.497"]

    def test_repeated_seed_counts_once(self, made_run, tmp_path):
        for name, seed, value in (("a", 0, 0.2), ("b", 0, 0.4), ("c", 1, 0.5)):
            made_run(tmp_path / name, ["seed"], (0, value), seed=seed)
        (group,) = compared(tmp_path).groups
        assert group.seeds == 2
        assert sorted(group.values("val/knn")) == pytest.approx([0.3, 0.5])

    def test_equal_numbers_are_one_group(self, made_run, tmp_path):
        for name, seed, weight in (("a", 0, 3), ("b", 1, 3.0), ("c", 0, 1)):
            made_run(tmp_path / name, ["seed", "attention.weight"], seed=seed, attention__weight=weight)
        assert sorted(group.seeds for group in compared(tmp_path).groups) == [1, 2]

    def test_pruned_run_is_in_no_mean(self, made_run, tmp_path):
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
        assert float(rows[0]["val/knn"]) == 1 / 3, "unrounded"
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
        assert "interrupted" in page.read_text()
        header, table = run_table(what)
        assert dict(zip(header, table[0], strict=True))["attention.weight"] == "0.1"

    @pytest.mark.parametrize("key", ["attention__weight", "name", None])
    def test_plot_of_any_difference(self, made_run, tmp_path, key):
        widths = []
        for count in (1, 3):
            for i in range(count):
                made_run(tmp_path / str(count) / str(i), **({key: f"n{i}" if key == "name" else i} if key else {}))
            write_comparison(tmp_path / "out", compared(tmp_path / str(count)), ["x"])
            picture = cv2.imread(str(tmp_path / "out" / "compare.png"))
            assert np.std(picture) > 5
            widths.append(picture.shape[1])
        assert widths[0] == widths[1]

    def test_plot_panel_per_swept_number(self, made_run, tmp_path):
        for i in range(3):
            made_run(tmp_path / str(i), attention__weight=i, optimizer__lr=0.1**i)
        write_comparison(tmp_path / "out", compared(tmp_path), ["x"])
        two = cv2.imread(str(tmp_path / "out" / "compare.png")).shape[1]
        for i in range(3):
            made_run(tmp_path / str(i), attention__weight=i)
        write_comparison(tmp_path / "out", compared(tmp_path), ["x"])
        one = cv2.imread(str(tmp_path / "out" / "compare.png")).shape[1]
        assert two > one + 300

    def test_no_finished_run(self, made_run, tmp_path):
        made_run(tmp_path / "a", summary=False)
        write_comparison(tmp_path / "out", compared(tmp_path), ["x"])
        assert (tmp_path / "out" / "compare.html").is_file()
