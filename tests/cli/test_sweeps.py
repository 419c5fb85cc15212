"""Sweeps with Optuna, joblib and submitit, and the comparison of their runs.

SLURM is not available here, so its preset is only composed.
"""

import json
import re
import sys

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.sweeps import refuse_without_sweep
from castlit.experiments.comparison import compare_runs
from castlit.experiments.read_runs import read_runs
from castlit.utils.validation import InputError

TINY = [
    *("data.train_count=64", "data.val_count=32", "data.batch_size=16", "data.workers=0", "data.size=32"),
    *("data.scene_size=36", "method.queue_size=64", "callbacks.panel=null", "trainer.check_val_every_n_epoch=1"),
]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=[pytest.mark.slow, pytest.mark.nightly])])
def test_optuna_search_with_pruning(run_program, made_run, tmp_path, jobs):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs castlit[sweep]")
    words = [f"hydra.sweeper.n_jobs={jobs}"]
    if jobs > 1:  # at once, each in a process of its own
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs castlit[sweep]")
        words += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
    # Runs with perfect scores: all others are pruned as early as possible.
    for i in range(2):
        made_run(tmp_path / "sweep" / f"perfect{i}", knn=(0, 1, 1, 1), choices={"experiment": "cast_mocov2"})
    result = run_program(
        "train",
        "-m",
        "+experiment=cast_mocov2",
        "+sweep=optuna",
        *words,
        "hydra.sweeper.n_trials=2",
        "callbacks.pruning.startup_runs=2",
        "trainer.max_epochs=3",
        "hydra.sweep.dir=sweep",
        *TINY,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    summaries = [json.loads((tmp_path / "sweep" / str(i) / "summary.json").read_text()) for i in range(2)]
    for summary in summaries:
        assert summary["epochs"] == 1, "a quarter of three epochs is free"
        assert summary["pruned"]["median"] == 1
    assert result.stdout.count("Pruned after epoch 1: val/knn was at most") == 2
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    # The sweeper has received the values that the runs returned.
    assert best["best_value"] == pytest.approx(max(summary["metrics"]["val/knn"]["end"] for summary in summaries))
    keys = ["attention.weight", "crop.min_coverage", "optimizer.lr"]
    assert sorted(best["best_params"]) == keys
    what = compare_runs(read_runs([tmp_path / "sweep"]))
    assert [run.state for run in what.runs] == ["done", "done", "pruned", "pruned"]
    searched = [run for run in what.runs if run.state == "pruned"]
    assert searched[0].settings.values["attention.weight"] != searched[1].settings.values["attention.weight"]
    assert what.keys[:3] == keys


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="submitit's local executor is for Linux")
def test_local_submitit(run_program, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs castlit[sweep]")
    result = run_program(
        "train",
        "-m",
        "+experiment=cast_mocov2",
        "hydra/launcher=submitit_local",
        "attention.weight=0,3",
        "trainer.max_epochs=1",
        "hydra.sweep.dir=sweep",
        *TINY,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    what = compare_runs(read_runs([tmp_path / "sweep"]))
    assert what.keys == ["attention.weight"]
    assert {run.name: (run.state, run.settings.get("attention.weight")) for run in what.runs} == {
        "0": ("done", 0),
        "1": ("done", 3),
    }
    assert len(list((tmp_path / "sweep" / ".submitit").glob("*/*_result.pkl"))) == 2


def composed(*overrides):
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("train", ["+experiment=cast_mocov2", *overrides], return_hydra_config=True)


@pytest.mark.parametrize(
    ("word", "told"),
    [("+sweep=optuna", "+sweep=optuna"), ("hydra/launcher=joblib", None), ("hydra/sweeper=optuna", None)],
)
def test_what_only_sweeps_use(monkeypatch, word, told):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # restores that of other tests
    for plugin in ("hydra_optuna_sweeper", "hydra_joblib_launcher"):
        pytest.importorskip(f"hydra_plugins.{plugin}", reason="needs castlit[sweep]")
    HydraConfig.instance().set_config(composed(word))
    with pytest.raises(InputError, match=f"^{re.escape(told or word)} is for sweeps: add -m$"):
        refuse_without_sweep()
    for words in ([word, "hydra.mode=MULTIRUN"], []):
        HydraConfig.instance().set_config(composed(*words))
        refuse_without_sweep()


def test_optuna_preset():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs castlit[sweep]")
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    config = composed("+sweep=optuna", "trainer.max_epochs=12")
    sweeper = config.hydra.sweeper
    assert sweeper.sampler._target_ == "optuna.samplers.TPESampler"
    assert str(sweeper.direction) == "maximize"
    assert config.callbacks.pruning.monitor == config.objective == "val/knn"
    space, fixed = create_params_from_overrides([f"{key}={value}" for key, value in sweeper.params.items()])
    assert fixed == {}
    assert {key: (each.low, each.high, "Log" in type(each).__name__) for key, each in space.items()} == {
        "attention.weight": (0.3, 10, True),
        "crop.min_coverage": (0.0, 0.6, False),
        "optimizer.lr": (0.01, 0.3, True),
    }
    for key in space:
        assert OmegaConf.select(config, key) is not None


def test_slurm_preset():
    """The preset and the script that sbatch would get; it was not tried on a cluster."""
    slurm = pytest.importorskip("submitit.slurm.slurm", reason="needs castlit[sweep]")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs castlit[sweep]")
    words = ["trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "hydra.launcher.partition=gpu"]
    config = composed("+sweep=slurm", *words)
    assert config.resume == "last"
    asked = config.hydra.launcher
    assert asked._target_.endswith("SlurmLauncher")
    assert asked.max_num_timeout > 0, "otherwise submitit does not put a job back"
    names = ("nodes", "gpus_per_node", "cpus_per_task", "partition", "signal_delay_s", "array_parallelism")
    given = {name: asked[name] for name in names} | {"ntasks_per_node": asked.tasks_per_node}
    script = slurm._make_sbatch_string("train", "folder", time=asked.timeout_min, map_count=40, **given)
    for line in ("nodes=2", "gpus-per-node=4", "ntasks-per-node=4", "cpus-per-task=8", "partition=gpu", "time=1440"):
        assert f"#SBATCH --{line}\n" in script
    # castlit.callbacks.LastCheckpoint saves at this signal, then calls submitit's handler.
    assert "#SBATCH --signal=USR2@300\n" in script
    assert "#SBATCH --array=0-39%16\n" in script


def test_optuna_and_slurm_presets():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs castlit[sweep]")
    hydra = composed("+sweep=[optuna,slurm]", "hydra.sweeper.n_jobs=8").hydra
    assert hydra.sweeper._target_.endswith("OptunaSweeper")
    assert hydra.launcher._target_.endswith("SlurmLauncher")
    assert hydra.launcher.tasks_per_node == 1
