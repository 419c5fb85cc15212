"""A study's plan, preparation and runner."""

import json

import pytest
from omegaconf import OmegaConf

from castlit.experiments.study_log import one_reason
from castlit.experiments.study_plan import plan
from castlit.experiments.study_prepare import prepare
from castlit.experiments.study_runner import Runner, why_failed
from castlit.experiments.study_settings import read_study
from castlit.utils.validation import InputError


def test_seed_by_seed(tmp_path):
    runs = plan({"a": ["x=1"], "b": []}, 2, ["y=2"], tmp_path)
    assert [(run.configuration, run.seed) for run in runs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert runs[0].overrides == ("x=1", "y=2")
    assert len({run.folder for run in runs}) == 4
    assert [run.seed for run in plan({"a": []}, [7, 3], [], tmp_path)] == [7, 3]


@pytest.mark.parametrize(
    ("arms", "seeds", "common", "words"),
    [
        ({}, 1, [], "at least one"),
        ({"a/b": []}, 1, [], "arms.a/b"),
        ({"..": []}, 1, [], "arms..."),
        ({"a": ["seed=3"]}, 1, [], "'seed=3' is no override"),
        ({"a": ["resume"]}, 1, [], "'resume' is no override"),
        ({"a": []}, 1, ["+hydra.run.dir=x"], "is no override"),
        ({"a": []}, 0, [], "seeds"),
        ({"a": []}, [1, 1], [], "seeds"),
        ({"a": []}, [], [], "seeds"),
        ({"a": []}, None, [], "seeds"),
        ({"a": []}, 1.5, [], "seeds"),
        ({"a": []}, "all", [], "seeds"),
    ],
)
def test_invalid_values(tmp_path, arms, seeds, common, words):
    with pytest.raises(InputError) as error:
        plan(arms, seeds, common, tmp_path)
    assert words in str(error.value)


def test_prepare_runs_each_command_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "count.py").write_text(
        "import sys\nopen(sys.argv[1], 'a').write('x')\nsys.exit(sys.argv[1] == 'bad')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    prepare([["count", "a"]], tmp_path / "study")
    with pytest.raises(InputError, match="python -m count bad failed with exit code 1"):
        prepare([["count", "a"], ["count", "bad"], ["count", "b"]], tmp_path / "study")
    assert (tmp_path / "a").read_text() == "x"
    assert (tmp_path / "bad").read_text() == "x"
    assert not (tmp_path / "b").exists()
    prepare([["count", "a"], ["count", "b"]], tmp_path / "study")
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "x"


def test_reuse_of_other_studies(tmp_path):
    runs = plan({"a": ["x=1"], "b": []}, 2, [], tmp_path / "mine")
    others = plan({"other": ["x=1"], "b": []}, 3, [], tmp_path / "theirs")
    for run in others:
        (run.folder / "evaluation").mkdir(parents=True)
        facts = {"train": list(run.overrides), "evaluate": ["+protocol=scenes"], "seed": run.seed}
        (run.folder / "study.json").write_text(json.dumps(facts) if run.configuration == "other" else "{")
        if run.seed != 1:
            (run.folder / "evaluation" / "results.json").write_text("{}")
    reused = Runner(["+protocol=scenes"]).done_elsewhere(runs, [tmp_path / "nowhere", tmp_path / "theirs"])
    assert [(run.configuration, run.seed) for run in reused] == [(run.configuration, run.seed) for run in runs]
    assert reused[0].folder == others[0].folder, "the configuration's name does not matter"
    assert [run.folder for run in reused[1:]] == [run.folder for run in runs[1:]], "damaged, or not finished"
    other_protocol = Runner(["+protocol=scenes", "data.size=32"]).done_elsewhere(runs, [tmp_path / "theirs"])
    assert other_protocol == runs
    (runs[0].folder / "evaluation").mkdir(parents=True)
    (runs[0].folder / "evaluation" / "results.json").write_text("{}")
    assert Runner(["+protocol=scenes"]).done_elsewhere(runs, [tmp_path / "theirs"]) == runs, "its own come first"


def test_finished_evaluations_are_not_repeated(tmp_path):
    (run,) = plan({"a": ["x=1"]}, 1, [], tmp_path)
    for name, value in (("few", 1.0), ("all", 2.0)):
        (run.folder / "evaluation" / name).mkdir(parents=True)
        (run.folder / "evaluation" / name / "results.json").write_text(json.dumps({"results": {"top1": value}}))
    (run.folder / "summary.json").write_text("{}")
    ended = []
    # Neither of these protocols exists: to run one would be an error.
    Runner({"few": ["+protocol=a"], "all": ["+protocol=b"]}).run_all([run], 1, lambda *end: ended.append(end))
    assert ended == [(run, "")]
    results = json.loads((run.folder / "evaluation" / "results.json").read_text())["results"]
    assert results == {"few": {"top1": 1.0}, "all": {"top1": 2.0}}
    with pytest.raises(InputError, match="or with another evaluation"):
        Runner(["+protocol=a"]).check([run])


@pytest.mark.parametrize(
    "given",
    [
        *({"evaluations": each} for each in ({"a/b": ["x=1"]}, {"a": "x=1"}, {"": ["x=1"]})),
        {"prepare": ["castlit.make_scenes"]},
        {"prepare": [[]]},
        {"output": None},
        {"columns": None},
    ],
    ids=str,
)
def test_invalid_settings(given, tmp_path):
    config = OmegaConf.create(
        {"arms": {"a": ["x=1"]}, "base": [], "seeds": 1, "overrides": [], "output": str(tmp_path), "columns": ["knn"]}
        | {
            "title": "",
            "about": "",
            "control": None,
            "in_percent": [],
            "prepare": [],
            "evaluate": [],
            "evaluations": {},
        }
        | given
    )
    with pytest.raises(InputError, match=f"^{next(iter(given))}"):
        read_study(config)


@pytest.mark.parametrize(
    ("code", "printed", "why"),
    [
        (1, "Some table\nerror: data.images=/a does not exist", "data.images=/a does not exist"),
        (
            1,
            "Traceback (most recent call last):\n  File x, line 3\n    f()\nValueError: no\n\n"
            "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.",
            "ValueError: no",
        ),
        (-9, "Epoch 3", "ended by SIGKILL"),
        (3, "", "exit code 3"),
    ],
)
def test_why_a_run_failed(code, printed, why):
    assert why_failed(code, printed.splitlines()) == why


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        (["castlit.train: no (see /a/study.log)", "castlit.train: no (see /b/study.log)"], "castlit.train: no"),
        (["castlit.train: no (see /a/study.log)"], None),
        (["castlit.train: no (see /a/study.log)", "castlit.train: ended by SIGKILL (see /b/study.log)"], None),
    ],
)
def test_one_reason_of_all_failures(errors, told):
    assert one_reason(errors) == ("" if told is None else f", all for one reason ({told})")
