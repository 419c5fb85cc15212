"""Studies: the plan, what several seeds say together, and the whole path from a config to a page."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from castlit.experiments.estimates import difference, estimate, estimates, figures_of, not_there
from castlit.experiments.prepare import prepare
from castlit.experiments.runner import Runner, why_failed
from castlit.experiments.study_plan import plan
from castlit.experiments.study_report import Study, table, write_report
from castlit.utils.validation import InputError


class TestPlan:
    def test_seed_by_seed(self, tmp_path):
        runs = plan({"a": ["x=1"], "b": []}, 2, ["y=2"], tmp_path)
        assert [(run.arm, run.seed) for run in runs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
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
        ],
    )
    def test_what_cannot_be(self, tmp_path, arms, seeds, common, words):
        with pytest.raises(InputError) as error:
            plan(arms, seeds, common, tmp_path)
        assert words in str(error.value)


def test_what_is_prepared_is_prepared_once(tmp_path, monkeypatch):
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


class TestFigures:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6))
    def test_the_interval_is_students(self, values):
        found = estimate(values)
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert found.mean - found.half_width == pytest.approx(low, abs=1e-9)
        assert found.mean + found.half_width == pytest.approx(high, abs=1e-9)

    def test_it_holds_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        hits = 0
        for _ in range(2000):
            found = estimate(list(rng.normal(0.3, 0.1, 5)))
            hits += abs(found.mean - 0.3) <= found.half_width
        assert 0.935 < hits / 2000 < 0.965

    def test_one_seed_has_no_interval(self):
        assert estimate([0.25]) == (0.25, None, 1)
        assert str(estimate([0.25])) == "25.0"
        assert str(estimate([-0.0001])) == "0.0"

    def test_differences_are_taken_seed_by_seed(self):
        control = {0: {"x": 0.1}, 1: {"x": 0.5}, 2: {"x": 0.3}}
        arm = {0: {"x": 0.2}, 1: {"x": 0.6}, 3: {"x": 0.9}}
        found = difference(arm, control, "x")
        assert found.mean == pytest.approx(0.1)
        assert found.half_width == pytest.approx(0, abs=1e-9)
        assert found.seeds == 2
        assert difference(arm, control, "y") is None
        assert estimates({}, "x") is None


def test_what_another_study_has_done(tmp_path):
    runs = plan({"a": ["x=1"], "b": []}, 2, [], tmp_path / "mine")
    others = plan({"other": ["x=1"], "b": []}, 3, [], tmp_path / "theirs")
    for run in others:
        (run.folder / "evaluation").mkdir(parents=True)
        facts = {"train": list(run.overrides), "evaluate": ["+protocol=scenes"], "seed": run.seed}
        (run.folder / "study.json").write_text(json.dumps(facts) if run.arm == "other" else "{")
        if run.seed != 1:
            (run.folder / "evaluation" / "results.json").write_text("{}")
    reused = Runner(["+protocol=scenes"]).done_elsewhere(runs, [tmp_path / "nowhere", tmp_path / "theirs"])
    assert [(run.arm, run.seed) for run in reused] == [(run.arm, run.seed) for run in runs]
    assert reused[0].folder == others[0].folder, "the name of the arm does not matter"
    assert [run.folder for run in reused[1:]] == [run.folder for run in runs[1:]], "damaged, or not at its end"
    other_protocol = Runner(["+protocol=scenes", "data.size=32"]).done_elsewhere(runs, [tmp_path / "theirs"])
    assert other_protocol == runs
    (runs[0].folder / "evaluation").mkdir(parents=True)
    (runs[0].folder / "evaluation" / "results.json").write_text("{}")
    assert Runner(["+protocol=scenes"]).done_elsewhere(runs, [tmp_path / "theirs"]) == runs, "its own come first"


def listed(key, words):
    return f"{key}=[{','.join(chr(34) + word + chr(34) for word in words)}]"


SMALL = ["data.size=32", "data.scene_size=36"]
TINY = [
    listed(
        "overrides",
        [
            *SMALL,
            *("trainer.max_epochs=1", "data.train_count=64", "data.val_count=32", "data.batch_size=16"),
            *("data.workers=0", "method.queue_size=64"),
        ],
    ),
    listed("evaluate", ["+protocol=scenes", *SMALL, "protocol.train_count=64", "protocol.test_count=32"]),
    "output=out",
    "threads=1",
]


@pytest.mark.slow
def test_from_a_config_to_a_page(run_program, tmp_path):
    (tmp_path / "mine" / "study").mkdir(parents=True)
    (tmp_path / "mine" / "study" / "small.yaml").write_text(
        "# @package _global_\n"
        "title: Small <study>\nabout: Whether it runs.\ncontrol: mocov2\ncolumns: [linear/mixed_rand, knn]\n"
        "arms:\n  mocov2: [+experiment=mocov2]\n  cast: [+experiment=cast_mocov2]\nevaluate: []\n"
    )
    command = ["--config-dir", "mine", "study=small", *TINY]
    first = run_program("study", *command, "seeds=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr + first.stdout
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("results.json")}
    assert len(times) == 2
    more = run_program("study", *command, "seeds=2", "at_once=2", cwd=tmp_path)
    assert more.returncode == 0, more.stderr + more.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in times.items()), "what was done is not done again"
    written = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert written["machine"]["versions"]["torch"]
    assert written["arms"]["cast"][0] == "+experiment=cast_mocov2"
    figures = written["figures"]
    assert {arm: sorted(seeds) for arm, seeds in figures.items()} == {"mocov2": ["0", "1"], "cast": ["0", "1"]}
    results = json.loads(next(iter(times)).read_text())["results"]
    assert any(results.items() <= values.items() for seeds in figures.values() for values in seeds.values())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Small &lt;study&gt;" in page
    assert "4 of 4 runs" in page
    assert page.count("data:image/jpeg") == 3, "the plot, and a panel for each arm"
    assert (tmp_path / "out" / "table.csv").read_text().startswith("arm,minus,figure,mean")
    told = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert told[:2] == [
        "|  | seeds | linear/mixed_rand | knn | seconds of training |",
        "| --- | --- | --- | --- | --- |",
    ]
    assert "Differences, seed by seed, in points:" in told
    assert told[-1].startswith("| cast - mocov2 | ")
    assert (tmp_path / "out" / "plot.png").stat().st_size > 1000

    again = run_program("study", *command, "seeds=3", "output=again", "reuse=out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "4 of 6 runs are done in other studies" in again.stdout
    assert [path.parents[1].name for path in (tmp_path / "again").rglob("results.json")] == ["seed_2", "seed_2"]
    told_again = json.loads((tmp_path / "again" / "figures.json").read_text())["figures"]
    assert {arm: {"0": seeds["0"], "1": seeds["1"]} for arm, seeds in told_again.items()} == figures

    other = run_program("study", *command, "seeds=2", listed("overrides", ["trainer.max_epochs=2"]), cwd=tmp_path)
    assert other.returncode == 1
    assert "holds a run with other overrides" in other.stderr

    wrong = run_program(
        "study", *command, "seeds=1", listed("arms.cast", ["+experiment=cast_mocov3x"]), "output=wrong", cwd=tmp_path
    )
    assert wrong.returncode == 1
    log = tmp_path / "wrong" / "runs" / "cast" / "seed_0" / "study.log"
    why = "castlit.train: experiment has no option cast_mocov3x (did you mean 'cast_mocov3'?)"
    assert f"cast, seed 0: {why} (see {log})" in wrong.stdout
    assert json.loads((tmp_path / "wrong" / "figures.json").read_text())["failed"] == {
        "cast, seed 0": f"{why} (see {log})"
    }
    assert wrong.stderr.strip().splitlines()[-1].startswith("error: 1 of 2 runs failed")
    assert "Runs that failed" in (tmp_path / "wrong" / "report.html").read_text()


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("columns: []\narms:\n  1:\n", "columns: name the figures"),
        ("columns: [knn]\n", "arms: a study needs at least one"),
        ("columns: [knn]\ncontrol: 3\narms:\n  1:\n  2:\n", "control: 3 is none of the arms (1, 2)"),
        ("columns: [knn]\ncontrol: [[1, 2, 1]]\narms:\n  1:\n  2:\n", "control: give an arm"),
        ("columns: [knn]\ncontrol: b\narms:\n  1:\n  a: [x=1]\n", "control: b is none of the arms (1, a)"),
    ],
)
def test_a_study_with_little_in_it_gets_a_clear_line(tmp_path, monkeypatch, capfd, yaml, words):
    from castlit.cli.app import program
    from castlit.study import study

    (tmp_path / "mine" / "study").mkdir(parents=True)
    (tmp_path / "mine" / "study" / "small.yaml").write_text("# @package _global_\n" + yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", "--config-dir", "mine", "study=small"])
    with pytest.raises(SystemExit):
        program("study", study)
    assert words in capfd.readouterr().err


GIVEN = {"photographs": ["voc=/v", "photos=/p", "masks=/m"]}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_runs_end_with_it(tmp_path, number):
    words = ["study=cast", "output=out", "threads=1", listed("overrides", [*SMALL, "data.workers=0"])]
    study = subprocess.Popen([sys.executable, "-m", "castlit.study", *words], cwd=tmp_path, stderr=subprocess.DEVNULL)
    mine = f"hydra.run.dir={tmp_path}/out/".encode()

    def runs():
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                found += [entry.name] if mine in (entry / "cmdline").read_bytes() else []
        return found

    try:
        end = time.monotonic() + 120
        while not list(tmp_path.glob("out/runs/*/*/metrics.csv")) and time.monotonic() < end:
            time.sleep(0.2)
        assert runs()
        study.send_signal(number)
        assert study.wait(60) != 0
        assert not runs()
    finally:
        study.kill()
        for left in runs():
            os.kill(int(left), signal.SIGKILL)


def test_figures_of_tables_and_of_protocols_are_named_by_their_path(tmp_path):
    run = plan({"a": []}, 1, [], tmp_path)[0]
    (run.folder / "evaluation").mkdir(parents=True)
    (run.folder / "summary.json").write_text('{"seconds": 3, "metrics": {"val/knn": {"start": 0.1, "end": 0.2}}}')
    results = {"voc07": {"mAP": 25.0}, "grounding": {"pretext": {"pointing": 0.5}}}
    (run.folder / "evaluation" / "results.json").write_text(json.dumps({"results": results}))
    assert figures_of(run, ["voc07/mAP"]) == {
        "voc07/mAP": 0.25,
        "grounding/pretext/pointing": 0.5,
        "val/knn": 0.2,
        "seconds": 3.0,
    }


def test_a_report_in_between_leaves_alone_what_is_being_written(tmp_path):
    done, running = plan({"done": [], "running": []}, 1, [], tmp_path)
    for run in (done, running):
        run.folder.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(run.folder / "gradcam.png")
    (running.folder / "gradcam.png").write_bytes((running.folder / "gradcam.png").read_bytes()[:40])
    figures = {"done": {0: {"knn": 0.5, "seconds": 10.0}}, "running": {}}
    page = write_report(tmp_path, Study("Study", "Whether.", ["knn"], []), [done, running], figures, {}).read_text()
    assert page.count("data:image/jpeg") == 2, "the plot, and the one panel"
    assert "done, seed 0" in page
    assert "running, seed 0" not in page


def test_one_long_run_does_not_make_an_arm_slow():
    seconds = {seed: {"knn": 0.5, "seconds": value} for seed, value in enumerate([10.0, 90.0, 12.0])}
    header, rows = table(Study("", "", ["knn"], []), {"a": seconds, "b": {}})
    assert header == ["", "seeds", "knn", "seconds of training"]
    assert rows == [["a", "3", "50.0 ± 0.0", "12"], ["b", "0", "", ""]]


def test_a_figure_that_only_some_seeds_have_says_how_many():
    seeds = {0: {"knn": 0.5, "seconds": 1.0}, 1: {"seconds": 1.0}}
    assert table(Study("", "", ["knn"], []), {"a": seeds})[1] == [["a", "2", "50.0 (n=1)", "1"]]


def test_a_mistyped_figure_is_told_as_soon_as_a_run_is_done():
    assert not_there({"a": {}}, "kn") == ""
    assert not_there({"a": {0: {"knn": 0.5}}}, "knn") == ""
    assert not_there({"a": {}, "b": {0: {"knn": 0.5}}}, "kn") == "no run has the figure kn (did you mean 'knn'?)"


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


def test_every_override_of_the_built_in_studies_exists(repository):
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from castlit.cli.app import CONFIG_MODULE

    names = sorted(path.stem for path in (repository / "conf" / "study").glob("*.yaml"))
    assert names
    for name in names:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = compose("study", [f"study={name}", "output=x", *GIVEN.get(name, [])])
            pairs = [[config.control]] if isinstance(config.control, str) else config.control
            assert {name for pair in pairs for name in pair} <= set(config.arms)
            for module, *words in config.prepare:
                compose(module.removeprefix("castlit."), words)
            for overrides in config.arms.values():
                compose("train", [*config.base, *overrides])
            compose("evaluate", [*config.evaluate, "checkpoint=random"])
            if name == "ablations":
                assert len(config.prepare) == 3, "study.yaml does not win over it"
            OmegaConf.to_container(config, resolve=True)
