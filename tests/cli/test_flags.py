"""Words with dashes: Hydra's flags in full, and nothing that its parser would take for the short form of one."""

import pytest

from castlit.cli.flags import refuse_unknown_flags
from castlit.utils.validation import InputError


@pytest.mark.parametrize(
    ("program", "words", "line"),
    [
        ("train", "--experiment=cast_mocov2", "no dashes: type +experiment=cast_mocov2"),
        ("train", "--experiment cast_mocov2 seed=1", "no dashes: type +experiment=cast_mocov2"),
        ("train", "--experiment seed=1", "no dashes: type +experiment=..."),
        ("train", "--seed=3", "no dashes: type seed=3"),
        ("train", "--data=coco", "no dashes: type data=coco"),
        ("train", "--attention.weight=3", "no dashes: type attention.weight=3"),
        ("evaluate", "--protocol=knn", "no dashes: type +protocol=knn"),
        ("export", "--output=a.pth", "no dashes: type output=a.pth"),
        ("train", "--multi seed=1,2", "--multi: no such option (did you mean '--multirun'?): see --help"),
        ("train", "--batch-size=3", "--batch-size=3: no such option: see --help"),
        ("train", "--package data", "--package is for showing the configuration: add --cfg job"),
        ("train", "--resolve", "--resolve is for showing the configuration: add --cfg job"),
    ],
)
def test_refused(program, words, line):
    with pytest.raises(InputError) as caught:
        refuse_unknown_flags(program, words.split())
    said = f"{words.split()[0]}: groups and keys have {line}" if line.startswith("no dashes") else line
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "words",
    [
        "--multirun seed=1,2",
        "-m seed=1,2",
        "--config-dir mine +mine=wide",
        "--config-dir=mine",
        "--cfg=job --package data",
        "-c job -p data --resolve",
        "--help --resolve",
        "--info plugins",
        "seed=--3",
    ],
)
def test_accepted(words):
    refuse_unknown_flags("train", words.split())
