"""A user's mistake ends in one clear line and a non-zero exit code, with no traceback."""

import re
import sys
from importlib.resources import files

import pytest
from omegaconf import OmegaConf

from castlit.cli.app import program
from castlit.cli.compose_check import why_refused
from castlit.cli.missing import require_complete
from castlit.cli.overrides import refuse_misspelt_group
from castlit.cli.sweeps import SweepError
from castlit.evaluate import evaluate
from castlit.interop.open_file import open_weights_file
from castlit.make_scenes import make_scenes
from castlit.resume.checkpoint_io import read_checkpoint
from castlit.study import study
from castlit.train import train
from castlit.utils.validation import InputError

TINY = [
    *("data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32", "data.scene_size=40"),
    *("data.workers=0", "callbacks.panel=null"),
]

TRAIN_MISTAKES = {
    "misspelt key": (["attention.wieght=1"], ["attention.wieght", "attention.weight"]),
    "misspelt group": (["+experiment=cast_mocov22"], ["cast_mocov22", "cast_mocov2"]),
    "misspelt choice": (["attention.mode=papre"], ["attention.mode", "did you mean 'paper'"]),
    "misspelt backbone": (["method.backbone=resnet5O"], ["resnet5O", "did you mean 'resnet50'"]),
    "misspelt layer": (["attention.layer=layer5"], ["no layer 'layer5'", "did you mean 'layer4'"]),
    "no number": (["attention.weight=heavy"], ["attention.weight must be a number", "heavy"]),
    "negative": (["method.queue_size=-1"], ["queue_size must be at least 1"]),
    "learning rate": (["optimizer.lr=0"], ["optimizer.lr must be greater than 0"]),
    "optimiser": (["optimizer.name=lasr"], ["optimizer.name must be one of", "did you mean 'lars'"]),
    "momentum schedule": (["method.momentum_schedule=cosin"], ["momentum_schedule", "did you mean 'cosine'"]),
    "switch": (["compile=maybe"], ["compile must be true or false, got 'maybe'"]),
    "seed": (["seed=-1"], ["seed must be at least 0"]),
    "epochs": (["trainer.max_epochs=many"], ["many"]),
    "batch size": (["data.batch_size=0"], ["batch_size must be at least 1"]),
    "precision": (["trainer.precision=17-mixed"], ["17-mixed"]),
    "missing folder": (["data=coco", "data.root=/no/such", "data.masks=/no/such"], ["/no/such"]),
    "folder not given": (["data=coco"], ["data.root must be given"]),
    "missing checkpoint": (["resume=/no/such.ckpt"], ["/no/such.ckpt", "no such file"]),
    "plus before a key": (["+trainer.deterministic=true"], ["trainer.deterministic is a key of the config already"]),
    "values without a sweep": (["callbacks=default,none"], ["Ambiguous value", "callbacks=default,none"]),
    "option that only others have": (["crop=none"], ["crop has no option none: choose one of random, saliency"]),
    "folder of configs": (["--config-dir", "nope"], ["--config-dir nope does not exist"]),
    "no callback": (["+callbacks.foo=1"], ["callbacks.foo must be null, or have the _target_ of a class; got 1"]),
    "no logger": (["+logger.foo.bar=1"], ["logger.foo must be null, or have the _target_ of a class"]),
    "nearly a key": (["+sed=1"], ["nothing reads a key sed (did you mean 'seed'?)"]),
    "no backbone": (["backbone=null"], ["backbone must be a name"]),
    "no accelerator": (["trainer.accelerator=abacus"], ["abacus"]),
}


def run(monkeypatch, capfd, tmp_path, name, task, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", [f"castlit.{name}", *arguments])
    with pytest.raises(SystemExit) as stop:
        program(name, task)
    assert stop.value.code == 1
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return captured.err


@pytest.mark.parametrize(("arguments", "words"), TRAIN_MISTAKES.values(), ids=TRAIN_MISTAKES.keys())
def test_training(monkeypatch, capfd, tmp_path, arguments, words):
    printed = run(monkeypatch, capfd, tmp_path, "train", train, ["trainer.fast_dev_run=true", *arguments])
    for word in words:
        assert word in printed
    lines = [line for line in printed.splitlines() if line.strip()]
    assert len(lines) == 1, printed
    assert lines[0].startswith("error: ")


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_evaluating_a_bad_checkpoint(monkeypatch, capfd, tmp_path, content):
    path = tmp_path / "bad.ckpt"
    if content is not None:
        path.write_bytes(content)
    printed = run(monkeypatch, capfd, tmp_path, "evaluate", evaluate, ["+protocol=scenes", f"checkpoint={path}"])
    assert str(path) in printed
    assert len(printed.strip().splitlines()) == 1, printed


def test_evaluating_without_a_protocol(monkeypatch, capfd, tmp_path):
    printed = run(monkeypatch, capfd, tmp_path, "evaluate", evaluate, ["checkpoint=x.ckpt"])
    assert "+protocol=" in printed


@pytest.mark.parametrize(
    ("name", "task", "arguments", "key"),
    [
        ("evaluate", evaluate, ["+protocol=scenes"], "checkpoint"),
        ("evaluate", evaluate, ["+protocol=all"], "checkpoint"),
        # protocol.data refers to data, which is what can be given.
        ("evaluate", evaluate, ["+protocol=grounding", "checkpoint=random", "data=coco"], "data.root"),
        ("evaluate", evaluate, ["+protocol=saliency", "data=coco", "data.root=/a"], "data.masks"),
        ("study", study, ["study=photographs"], "photos"),
        ("study", study, ["study=photographs", "photos=/a", "voc=/b"], "masks"),
    ],
)
def test_missing_key(monkeypatch, capfd, tmp_path, name, task, arguments, key):
    printed = run(monkeypatch, capfd, tmp_path, name, task, arguments)
    assert printed == f"error: {key} must be given: add {key}=...\n"


def test_missing_keys_of_what_is_instantiated():
    config = OmegaConf.create(
        {
            "root": "???",
            "complete": {"_target_": "x", "inner": [{"a": 1}, "${deeper}"], "wrong": "${no.such.key}"},
            "deeper": {"_target_": "y", "_partial_": True, "given_by_its_caller": "???", "b": {"c": 2}},
            "not_read": {"_target_": "z", "_recursive_": False, "inner": {"a": "???"}},
            "in_list": {"_target_": "x", "inner": [{"a": 1}, {"b": {"c": "???"}}]},
            "by_name": {"_target_": "x", "folder": "${root}/photos"},
        }
    )
    require_complete(config, "complete", "deeper", "not_read", "not_there")
    for part, key in {"root": "root", "in_list": r"in_list.inner\[1\].b.c", "by_name": "root"}.items():
        with pytest.raises(InputError, match=f"^{key} must be given: add {key}=...$"):
            require_complete(config, "complete", part)


def test_resuming_finished_or_different_run(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = [*TINY, "trainer.max_epochs=1"]
    monkeypatch.setattr(sys, "argv", ["castlit.train", *small, f"hydra.run.dir={tmp_path / 'first'}"])
    program("train", train)
    checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
    longer = "trainer.max_epochs=2"
    for more, words in (
        ([], "has already trained 1 epoch: add trainer.max_epochs=2"),
        ([longer, "method.queue_size=17"], "method.queue_size=2048"),
        ([longer, "+experiment=cast_byol"], "was trained with castlit.methods.moco.MoCo"),
        ([longer, "optimizer.name=adamw"], "optimizer.name=sgd"),
    ):
        printed = run(monkeypatch, capfd, tmp_path, "train", train, [*small, f"resume={checkpoint}", *more])
        assert words in printed


def test_ddp_sweep_is_refused(monkeypatch, capfd, tmp_path):
    printed = run(
        monkeypatch,
        capfd,
        tmp_path,
        "train",
        train,
        ["-m", "attention.weight=1,3", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"],
    )
    assert "use hydra/launcher=submitit_slurm" in printed
    words = ["-m", "+protocol=linear", "checkpoint=random", "seed=0,1"]
    words += ["protocol.trainer.devices=2", "protocol.trainer.accelerator=cpu", "protocol.trainer.strategy=ddp"]
    printed = run(monkeypatch, capfd, tmp_path, "evaluate", evaluate, words)
    assert "use hydra/launcher=submitit_slurm" in printed


def test_folder_named_by_number(monkeypatch, capfd, tmp_path):
    printed = run(monkeypatch, capfd, tmp_path, "train", train, ["data=folder", "data.images=007", "data.masks=8"])
    assert "images=007 does not exist" in printed


@pytest.mark.parametrize(("typed", "meant"), [("+protocol=groundin", "grounding"), ("trainer=dpd", "ddp")])
def test_misspelt_option(monkeypatch, capfd, tmp_path, typed, meant):
    name, task = ("evaluate", evaluate) if "protocol" in typed else ("train", train)
    printed = run(monkeypatch, capfd, tmp_path, name, task, [typed, *(["checkpoint=random"] * (name == "evaluate"))])
    group, option = typed.lstrip("+").split("=")
    assert printed == f"error: {group} has no option {option} (did you mean {meant!r}?)\n"


def test_misspelt_key_hint(monkeypatch, capfd, tmp_path):
    printed = run(
        monkeypatch,
        capfd,
        tmp_path,
        "train",
        train,
        ["data=coco", "data.root=/a", "data.masks=/b", "atention.weight=1"],
    )
    (line,) = printed.splitlines()
    assert line.startswith("error: atention.weight is not a key of the config (did you mean 'attention.weight'?); all")


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("zzzqqq=1", "zzzqqq is not a key of the config; all keys: add --cfg job"),
        ("zzzqqq.qqq=1", "zzzqqq.qqq is not a key of the config; all keys: add --cfg job"),
        ("expriment=cast_mocov2", "expriment is not a key of the config (did you mean '+experiment'?); all keys: add"),
        ("experiment=cast_mocov2", "experiment is a group without a default: type +experiment=cast_mocov2"),
        ("cast_mocov2", "cast_mocov2: did you mean +experiment=cast_mocov2?"),
        ("laptop", "laptop: did you mean budget=laptop?"),
        ("cast_mocov222", "cast_mocov222: type key=value; see --help"),
        ("--experiment=cast_mocov2", "groups and keys have no dashes: type +experiment=cast_mocov2"),
        # Hydra adds any key with a plus: the whole training ran without what was asked for.
        ("+experiments=cast_mocov2", "experiments is no group of configurations (did you mean 'experiment'?)"),
        ("+atention.weight=1", "atention is no group of configurations (did you mean 'attention'?)"),
        ("++optimiser.lr=1", "optimiser is no group of configurations (did you mean 'optimizer'?)"),
    ],
)
def test_unknown_key_gets_no_advice_to_add_it(monkeypatch, capfd, tmp_path, typed, printed):
    (line,) = run(monkeypatch, capfd, tmp_path, "train", train, [typed]).splitlines()
    assert line.startswith("error: ")
    assert printed in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["+experiment=cast_mocov2", "+experiment=cast_byol"],
            "+experiment=cast_mocov2 and +experiment=cast_byol: give one of them",
        ),
        (["seed=1", "name=é"], """name=é: this value cannot be read: type "name='é'\""""),
        (["cast_byol"], "cast_byol: did you mean +experiment=cast_byol?"),
        (["seed=1", "+experiment=cast_byol"], None),
    ],
)
def test_words_of_a_study(words, line):
    assert why_refused("train", words) == line


@pytest.mark.parametrize("key", ["train_count", "val_count"])
def test_number_of_scenes(monkeypatch, capfd, tmp_path, key):
    printed = run(monkeypatch, capfd, tmp_path, "make_scenes", make_scenes, ["output=scenes", f"{key}=0"])
    assert printed == f"error: {key} must be at least 1, got 0\n"
    assert not any(tmp_path.iterdir())


def test_folder_in_place_of_a_checkpoint(tmp_path):
    """Of a run, of its checkpoints, or another one."""
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"")
    for folder, advice in ((last.parents[1], f", such as {last}"), (last.parent, f", such as {last}"), (tmp_path, "")):
        line = re.escape(f"checkpoint={folder}: a folder; give a file in it{advice}") + "$"
        with pytest.raises(InputError, match=line):
            open_weights_file(folder, "checkpoint")
        with pytest.raises(InputError, match=line):
            read_checkpoint(folder, f"checkpoint={folder}", "training")


def test_keys_that_a_user_may_add():
    configs = [file for file in files("castlit.conf").iterdir() if file.name.endswith(".yaml")]
    keys = {str(key) for file in configs for key in OmegaConf.load(file)} | {"name", "model", "tag"}
    groups = {folder.name for folder in files("castlit.conf").iterdir() if folder.is_dir()}
    assert groups
    for key in keys | groups:
        refuse_misspelt_group(f"+{key}=1")
        refuse_misspelt_group(f"++{key}.part=1")


def test_other_words_of_hydra_are_shown(monkeypatch, capfd, tmp_path):
    printed = run(monkeypatch, capfd, tmp_path, "train", train, ["data.workers=[1"])
    assert "no viable alternative at input '[1'" in printed


def test_unknown_key_with_chosen_group(monkeypatch, capfd, tmp_path):
    arguments = ["+protocol=grounding", "data=folder", "data.images=/a", "data.masks=/b", "checkpoint=c", "output=/d"]
    printed = run(monkeypatch, capfd, tmp_path, "evaluate", evaluate, arguments)
    assert "output is not a key of the config (did you mean 'output_dir'?)" in printed


def test_resuming_from_garbage(monkeypatch, capfd, tmp_path):
    (tmp_path / "bad.ckpt").write_bytes(b"not a checkpoint")
    printed = run(
        monkeypatch, capfd, tmp_path, "train", train, ["data.train_count=128", f"resume={tmp_path / 'bad.ckpt'}"]
    )
    assert "bad.ckpt" in printed


def test_full_errors_on_demand(run_program, tmp_path):
    result = run_program("train", "optimizer.lr=0", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_from_the_shell(start_program, tmp_path):
    result = start_program("train", "method.temperature=-1", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip() == "error: module.method: temperature must be greater than 0, got -1"


def test_sweep_with_failing_job(run_program, tmp_path):
    result = run_program("train", "-m", "attention.weight=heavy,1", "trainer.fast_dev_run=true", *TINY, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("attention.weight must be a number") == 1
    assert "Error executing job" not in result.stderr
    assert "Traceback" not in result.stderr
    assert len(list(tmp_path.glob("multirun/*/*/1/summary.json"))) == 1


@pytest.mark.parametrize(
    ("error", "runs", "lines"),
    [
        (SweepError("objective=val/knnn: no"), 1, ["error: objective=val/knnn: no"]),
        (
            InputError("no"),
            2,
            [
                "error: no (job 0: seed=1 +sweep=optuna)",
                "error: no (job 1: seed=1 +sweep=optuna)",
                "error: no run of the search has returned its objective: see the lines above for why",
            ],
        ),
    ],
)
def test_search_without_a_result(monkeypatch, capfd, tmp_path, error, runs, lines):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs castlit[sweep]")
    begun = []

    def task(config):
        begun.append(config.seed)
        raise error

    words = ["-m", "+sweep=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.params=null", "seed=choice(1)"]
    printed = run(monkeypatch, capfd, tmp_path, "train", task, words).splitlines()
    assert [line for line in printed if "error" in line.lower()] == lines
    assert len(begun) == runs
