"""Cells that a spreadsheet would run, and names that lead out of a folder."""

import csv

import pytest

from castlit.data.io.data_report import DataReport
from castlit.experiments.tables import csv_bytes
from castlit.saliency.pipeline.records import Failures
from castlit.utils.csv_cells import safe_cells
from castlit.utils.inside import require_inside


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        (" =1+1", "' =1+1"),
        ("\n=1", "'\n=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-1.5", "-1.5"),
        ("-inf", "-inf"),
        (-1.5, -1.5),
        ("a=1", "a=1"),
        ("", ""),
        (None, None),
    ],
)
def test_cells(cell, written):
    assert safe_cells([cell]) == [written]


def test_files(tmp_path):
    text = csv_bytes(["run", "-key"], [["=1+1", -0.5]]).decode()
    assert list(csv.reader(text.splitlines())) == [["run", "'-key"], ["'=1+1", "-0.5"]]
    DataReport(tmp_path / "data_report.csv").add([("train", "=x.jpg", "", "missing", "-y", "left out")])
    with (tmp_path / "data_report.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["train", "'=x.jpg", "", "missing", "'-y", "left out"]
    failures = Failures(tmp_path / "failed.csv")
    failures.add("@a.jpg", "cannot be decoded")
    failures.write()
    failures.close()
    with (tmp_path / "failed.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["'@a.jpg", "cannot be decoded"]


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "..a.jpg", "a..b/c.jpg", "2008_000001"])
def test_names_inside(name):
    assert require_inside(name) == name


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "..\\x.jpg", "C:\\x.jpg", "C:x.jpg", ".."])
def test_names_outside(name):
    with pytest.raises(ValueError, match="leads out of the folder of the images"):
        require_inside(name)
