"""castlit.study from the command line, and the built-in studies."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from castlit.cli.compose_check import why_refused

GIVEN = {
    "photographs": ["voc=/v", "photos=/p", "masks=/m"],
    "attention_photographs": ["voc=/v", "photos=/p", "masks=/m", "test_photos=/q", "test_masks=/n"],
    "attention_tiny100": ["tiny=/t", "voc=/v", "coco_images=/p", "coco_masks=/m"],
}
"""What the built-in studies leave to the user."""


def listed(key, words):
    return f"{key}=[{','.join(chr(34) + word + chr(34) for word in words)}]"


SMALL = ["data.size=32", "data.scene_size=36"]
EVALUATION = ["+protocol=scenes", *SMALL, "protocol.train_count=32", "protocol.test_count=16"]
TINY = [
    listed(
        "overrides",
        [
            *SMALL,
            *("trainer.max_epochs=1", "data.train_count=32", "data.val_count=16", "data.batch_size=16"),
            *("data.workers=0", "method.queue_size=64", "+callbacks.panel.pixels=32"),
        ],
    ),
    listed("evaluate", EVALUATION),
    "output=out",
    "threads=1",
]


@pytest.mark.slow
def test_config_to_report(run_program, tmp_path):
    (tmp_path / "mine" / "study").mkdir(parents=True)
    (tmp_path / "mine" / "study" / "small.yaml").write_text(
        "# @package _global_\n"
        "title: Small <study>\nabout: Does it run?\ncontrol: mocov2\ncolumns: [probes/linear/mixed_rand, probes/knn]\n"
        "arms:\n  mocov2: [+experiment=mocov2]\n  cast: [+experiment=cast_mocov2]\n"
        # An evaluation with a name, as studies with several have them.
        f"evaluations:\n  probes: [{', '.join(EVALUATION)}]\n"
    )
    command = ["--config-dir", "mine", "study=small", *TINY]
    first = run_program("study", *command, "seeds=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr + first.stdout
    told = first.stdout.splitlines()
    assert told[0] == "2 of 2 runs to do, 1 at a time; their output is in out/runs/*/*/study.log"
    assert re.fullmatch(r"mocov2, seed 0: done; 1 of 2 runs, about 0:\d\d:\d\d left", told[1])
    assert told[2] == "cast, seed 0: done; 2 of 2 runs"
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("results.json")}
    assert sorted(path.parent.name for path in times) == ["evaluation", "evaluation", "probes", "probes"]
    results = json.loads(next(path for path in times if path.parent.name == "probes").read_text())["results"]
    results = {f"probes/{name}": value for name, value in results.items()}

    # Another study with one more seed takes these runs over.
    again = run_program("study", *command, "seeds=2", "at_once=2", "output=again", "reuse=out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "2 of 4 runs are done in other studies" in again.stdout
    assert "2 of 4 runs to do, 2 at a time; " in again.stdout
    assert {path.parents[1].name for path in (tmp_path / "again").rglob("evaluation/results.json")} == {"seed_1"}
    written = json.loads((tmp_path / "again" / "figures.json").read_text())
    assert written["machine"]["versions"]["torch"]
    assert written["arms"]["cast"][0] == "+experiment=cast_mocov2"
    figures = written["figures"]
    assert {name: sorted(seeds) for name, seeds in figures.items()} == {"mocov2": ["0", "1"], "cast": ["0", "1"]}
    assert any(results.items() <= values.items() for seeds in figures.values() for values in seeds.values())
    page = (tmp_path / "again" / "report.html").read_text()
    assert "Small &lt;study&gt;" in page
    assert "4 of 4 runs" in page
    assert page.count("data:image/jpeg") == 3, "the plot, and a panel for each configuration"
    assert (tmp_path / "again" / "table.csv").read_text().startswith("arm,minus,figure,mean")
    lines = (tmp_path / "again" / "table.md").read_text().splitlines()
    assert lines[:2] == [
        "|  | seeds | probes/linear/mixed_rand | probes/knn | seconds of training |",
        "| --- | --- | --- | --- | --- |",
    ]
    assert "Differences, seed by seed, in points:" in lines
    assert lines[-1].startswith("| cast - mocov2 | ")
    assert (tmp_path / "again" / "plot.png").stat().st_size > 1000

    more = run_program("study", *command, "seeds=2", "reuse=again", cwd=tmp_path)
    assert more.returncode == 0, more.stderr + more.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in times.items()), "finished runs are skipped"
    assert "2 of 4 runs are done in other studies" in more.stdout
    figures_more = json.loads((tmp_path / "out" / "figures.json").read_text())["figures"]
    assert figures_more == figures

    other = run_program("study", *command, "seeds=2", listed("overrides", ["trainer.max_epochs=2"]), cwd=tmp_path)
    assert other.returncode == 1
    assert "contains a run with other overrides" in other.stderr

    words = [listed("arms.cast", ["+experiment=cast_mocov2", "weights=none.ckpt"]), "output=wrong", "reuse=out"]
    wrong = run_program("study", *command, "seeds=1", *words, cwd=tmp_path)
    assert wrong.returncode == 1
    log = tmp_path / "wrong" / "runs" / "cast" / "seed_0" / "study.log"
    why = (
        "castlit.train: weights=none.ckpt: no such file; give a .ckpt of castlit's, another file of weights, or random"
    )
    assert f"cast, seed 0: {why} (see {log})" in wrong.stdout
    assert json.loads((tmp_path / "wrong" / "figures.json").read_text())["failed"] == {
        "cast, seed 0": f"{why} (see {log})"
    }
    assert wrong.stderr.strip().splitlines()[-1].startswith("error: 1 of 2 runs failed")
    assert "Runs that failed" in (tmp_path / "wrong" / "report.html").read_text()


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("columns: []\narms:\n  1:\n", "columns: name the metrics"),
        ("columns: [knn]\n", "arms: a study needs at least one"),
        ("columns: [knn]\narms: 3\n", "arms must be lists of overrides by name"),
        ("columns: [knn]\narms:\n  a: +experiment=simclr\n", "arms must be lists of overrides by name"),
        (
            "columns: [knn]\nbase: trainer.max_epochs=1\narms:\n  a:\n",
            "base must be a list, got 'trainer.max_epochs=1'",
        ),
        ("columns: [knn]\ncontrol: 3\narms:\n  1:\n  2:\n", "control: 3 is none of the configurations in arms (1, 2)"),
        ("columns: [knn]\ncontrol: [[1, 2, 1]]\narms:\n  1:\n  2:\n", "control: give a configuration"),
        (
            "columns: [knn]\ncontrol: b\narms:\n  1:\n  a: [x=1]\n",
            "control: b is none of the configurations in arms (1, a)",
        ),
    ],
)
def test_invalid_configs_give_one_line(tmp_path, monkeypatch, capfd, yaml, words):
    from castlit.cli.app import program
    from castlit.study import study

    (tmp_path / "mine" / "study").mkdir(parents=True)
    (tmp_path / "mine" / "study" / "small.yaml").write_text("# @package _global_\n" + yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", "--config-dir", "mine", "study=small"])
    with pytest.raises(SystemExit):
        program("study", study)
    assert words in capfd.readouterr().err


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        (
            "arms:\n  a: [+experiment=mocov2]\n  b: [trainer.max_epoch=1]\n",
            "arms.b: castlit.train would refuse it: trainer.max_epoch is not a key of the config (did you mean "
            "'trainer.max_epochs'?)",
        ),
        ("base: [+experiment=mocov]\narms:\n  a:\n", "arms.a: castlit.train would refuse it: experiment has no option"),
        (
            "arms:\n  a:\nevaluations:\n  few: [+protocol=scene]\n",
            "evaluations.few: castlit.evaluate would refuse it: protocol has no option scene (did you mean 'scenes'?)",
        ),
    ],
)
def test_mistyped_keys_start_no_run(tmp_path, monkeypatch, capfd, yaml, words):
    """Every command is composed before the first program starts, also those that prepare the data."""
    from castlit.cli.app import program
    from castlit.study import study

    (tmp_path / "mine" / "study").mkdir(parents=True)
    head = "# @package _global_\ncolumns: [knn]\nprepare: [[castlit.make_scenes, output=scenes]]\n"
    (tmp_path / "mine" / "study" / "small.yaml").write_text(head + yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", "--config-dir", "mine", "study=small", "output=out"])
    with pytest.raises(SystemExit):
        program("study", study)
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {words}")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "scenes").exists()


def test_folder_of_another_study_is_left_alone(tmp_path, monkeypatch, capfd):
    from castlit.cli.app import program
    from castlit.study import study

    (tmp_path / "mine" / "study").mkdir(parents=True)
    yaml = "# @package _global_\ncolumns: [knn]\nprepare: [[castlit.make_scenes, output=scenes]]\n"
    yaml += "arms: {a: [+experiment=mocov2]}\nevaluate: [+protocol=scenes]\n"
    (tmp_path / "mine" / "study" / "small.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", "--config-dir", "mine", "study=small", "output=out", "seeds=1"])
    theirs = tmp_path / "out" / "runs" / "a" / "seed_0" / "study.json"
    theirs.parent.mkdir(parents=True)

    def line():
        with pytest.raises(SystemExit):
            program("study", study)
        assert not (tmp_path / "scenes").exists(), "nothing is prepared"
        (error,) = capfd.readouterr().err.strip().splitlines()
        return error

    theirs.write_text("{}")
    assert "contains a run with other overrides than +experiment=mocov2" in line()
    theirs.unlink()
    script = (
        "import sys, pathlib\n"
        "from castlit.utils.locking import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])): print(); input()"
    )
    command = [sys.executable, "-c", script, tmp_path / "out"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        assert "another castlit.study is running there" in line()
        other.communicate("\n")


def test_commands_that_compose(tmp_path):
    """What the runs accept is not refused before them: quotes left out, the user's own groups, options of Hydra's."""
    (tmp_path / "own" / "logger").mkdir(parents=True)
    (tmp_path / "own" / "logger" / "theirs.yaml").write_text("{}\n")
    for overrides in (
        ["data=folder", "data.images=/photos (1)", "logger=null"],
        [f"--config-dir={tmp_path}/own", "logger=theirs"],
        [f"hydra.searchpath=[file://{tmp_path}/own]", "logger=theirs"],
        ["--config-name=theirs"],
    ):
        assert why_refused("train", overrides) is None
    assert why_refused("train", ["logger=theirs"]).startswith("logger has no option theirs")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)])
def test_signals_end_all_runs(fork_server, tmp_path, number):
    few = ["data.train_count=32", "data.val_count=16", "data.batch_size=16", "data.workers=0"]
    endless = listed("overrides", [*SMALL, *few, "trainer.max_epochs=100000"])
    words = ["study=cast", "output=out", "threads=1", endless]
    python = fork_server.python if number == signal.SIGTERM else sys.executable
    study = subprocess.Popen([python, "-m", "castlit.study", *words], cwd=tmp_path, stderr=subprocess.DEVNULL)
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


@pytest.mark.slow
@pytest.mark.nightly
def test_built_in_studies_compose(repository):
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from castlit.cli.config_dir import CONFIG_MODULE

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
            for words in config.evaluations.values() or [config.evaluate]:
                compose("evaluate", [*words, "checkpoint=random"])
            if name == "ablations":
                assert len(config.prepare) == 3, "study.yaml does not override it"
            OmegaConf.to_container(config, resolve=True)
