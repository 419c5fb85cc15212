"""Runs that are killed and resumed with the same command and resume=last equal an uninterrupted run."""

import fcntl
import json
import os

import pytest
import torch

# 5 steps an epoch, validation before training and after the second and third epoch.
SMALL = [
    "+experiment=cast_mocov2",
    "data.train_count=42",
    "data.val_count=12",
    "data.batch_size=8",
    "data.size=32",
    "data.scene_size=36",
    "data.workers=0",
    "method.queue_size=50",
    "trainer.max_epochs=3",
    "trainer.check_val_every_n_epoch=2",
    "trainer.log_every_n_steps=2",
    "callbacks.checkpoint.every_n_train_steps=2",
    "+callbacks.panel.pixels=32",
]


@pytest.fixture(scope="module")
def train(run_program, repository):
    """Run castlit.train; the callbacks of tests/support/cuts.py are found."""

    def run(cwd, *arguments, **environment):
        cwd.mkdir(exist_ok=True)
        options = [word for word in arguments if word.startswith("-")]
        overrides = [word for word in arguments if not word.startswith("-")]
        path = str(repository / "tests" / "support")
        return run_program("train", *options, *SMALL, *overrides, cwd=cwd, PYTHONPATH=path, **environment)

    return run


def cut(kind, **options):
    """The overrides that add a callback of cuts.py to a run."""
    return [
        f"+callbacks.cut._target_=cuts.{kind}",
        *(f"+callbacks.cut.{key}={value}" for key, value in options.items()),
    ]


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The folder of an uninterrupted run."""
    cwd = tmp_path_factory.mktemp("whole")
    result = train(cwd)
    assert result.returncode == 0, result.stderr
    return only_run(cwd)


def only_run(cwd):
    (folder,) = cwd.glob("outputs/*/*")
    return folder


def equal(found, wanted, path=""):
    """The first place where two checkpoints differ, or None."""
    if isinstance(wanted, torch.Tensor):
        return None if torch.equal(found, wanted) else path
    if isinstance(wanted, dict):
        if found.keys() != wanted.keys():
            return f"{path}: {sorted(map(str, found.keys() ^ wanted.keys()))}"
        return next((x for key in wanted if (x := equal(found[key], wanted[key], f"{path}.{key}"))), None)
    if isinstance(wanted, (list, tuple)):
        if len(found) != len(wanted):
            return path
        return next(
            (x for i, pair in enumerate(zip(found, wanted, strict=True)) if (x := equal(*pair, f"{path}.{i}"))), None
        )
    return None if found == wanted else f"{path}: {found} != {wanted}"


def assert_same_run(folder, whole):
    """Compare all files of two runs, except times and paths."""
    first, second = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (folder, whole))
    for checkpoint in (first, second):
        checkpoint["callbacks"] = {
            key: {name: value for name, value in state.items() if "seconds" not in name}
            for key, state in checkpoint["callbacks"].items()
        }
        # Lightning counts validation batches over all of a run's processes.
        del checkpoint["loops"]["validate_loop"]
        del checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    assert equal(first, second) is None
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert (folder / "gradcam.png").read_bytes() == (whole / "gradcam.png").read_bytes()
    ours, theirs = (json.loads((run / "summary.json").read_text()) for run in (folder, whole))
    for key in ("epochs", "steps", "images", "metrics"):
        assert ours[key] == theirs[key], key
    left = {path.name for path in folder.rglob("*")} - {path.name for path in whole.rglob("*")}
    assert not left, "no temporary files are left"


@pytest.mark.parametrize(
    ("hook", "count"),
    [
        ("on_before_optimizer_step", 9),
        ("on_validation_end", 2),
        pytest.param("on_train_batch_start", 5, marks=pytest.mark.nightly),
        pytest.param("on_train_epoch_end", 1, marks=pytest.mark.nightly),
        pytest.param("on_validation_batch_start", 4, marks=pytest.mark.nightly),  # two batches before training
        pytest.param("on_fit_end", 1, marks=pytest.mark.nightly),
    ],
)
def test_killed_in_a_hook(train, whole, tmp_path, hook, count):
    broken = train(tmp_path, "resume=last", *cut("SignalAt", hook=hook, count=count))
    assert broken.returncode == -9
    assert "nothing to resume yet, starting from scratch" in broken.stdout
    result = train(tmp_path, "resume=last")
    assert result.returncode == 0, result.stderr
    folder = only_run(tmp_path)
    assert f"resume=last: continuing from {folder.relative_to(tmp_path)}/checkpoints/last.ckpt" in result.stdout
    assert_same_run(folder, whole)


@pytest.mark.parametrize("middle", ["true", "false"])
def test_killed_while_writing(train, whole, tmp_path, middle):
    broken = train(tmp_path, *cut("KillWhileWriting", count=4, middle=middle))
    assert broken.returncode == -9
    checkpoints = only_run(tmp_path) / "checkpoints"
    assert len(list(checkpoints.glob(".last.ckpt.*"))) == 1
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == 5
    result = train(tmp_path, "resume=last")
    assert result.returncode == 0, result.stderr
    assert_same_run(only_run(tmp_path), whole)


def test_killed_before_first_checkpoint(train, whole, tmp_path):
    here = ["hydra.run.dir=here", "resume=last"]
    assert train(tmp_path, *here, *cut("SignalAt", hook="on_train_batch_start", count=1)).returncode == -9
    result = train(tmp_path, *here)
    assert result.returncode == 0, result.stderr
    assert "nothing to resume yet" in result.stdout
    assert_same_run(tmp_path / "here", whole)
    again = train(tmp_path, *here)
    assert again.returncode == 0, again.stderr
    assert "epoch 3, step 15" in again.stdout, "a finished run can be started again"
    assert_same_run(tmp_path / "here", whole)


def test_sigterm_to_process_group(train, whole, tmp_path):
    options = ["data.workers=2", "callbacks.checkpoint.every_n_train_steps=null", "resume=last"]
    signal = cut("SignalAt", hook="on_before_backward", count=8, name="SIGTERM", group="true")
    stopped = train(tmp_path, *options, *signal)
    assert stopped.returncode == 143, stopped.stderr
    (line,) = [line for line in stopped.stderr.splitlines() if "stopped by" in line]
    assert "stopped by SIGTERM at step 8: saved outputs/" in line
    assert line.endswith("last.ckpt, of step 8; resume=last continues")
    result = train(tmp_path, *options)
    assert result.returncode == 0, result.stderr
    assert_same_run(only_run(tmp_path), whole)


def test_ctrl_c_during_validation(train, whole, tmp_path):
    stopped = train(tmp_path, *cut("SignalAt", hook="on_validation_batch_start", count=4, name="SIGINT"))
    assert stopped.returncode == 130, stopped.stderr
    assert "Stopping after this step; again: at once." in stopped.stderr
    assert "stopped by Ctrl-C at step 10: saved" in stopped.stderr
    result = train(tmp_path, "resume=last")
    assert result.returncode == 0, result.stderr
    assert_same_run(only_run(tmp_path), whole)


def test_slurm_requeue(train, whole, tmp_path):
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    job |= {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    stopped = train(tmp_path, *cut("SignalAt", hook="on_before_backward", count=3, name="SIGUSR1", group="true"), **job)
    assert stopped.returncode == 128 + 10, stopped.stderr
    assert "stopped by SIGUSR1 at step 3: saved" in stopped.stderr
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    # The same command; SLURM's restart count shows that it is a requeue.
    result = train(tmp_path, **job, SLURM_RESTART_COUNT="1")
    assert result.returncode == 0, result.stderr
    assert_same_run(only_run(tmp_path), whole)


def test_sweep_resumes(train, whole, tmp_path):
    sweep = ["-m", "attention.weight=3,0", "hydra.sweep.dir=s", "resume=last"]
    assert train(tmp_path, *sweep, *cut("SignalAt", hook="on_train_epoch_end", count=2)).returncode == -9
    assert not (tmp_path / "s" / "1").exists()
    result = train(tmp_path, *sweep)
    assert result.returncode == 0, result.stderr
    assert "epoch 1, step 8" in result.stdout
    assert "nothing to resume yet, starting from scratch in s/1" in result.stdout
    assert_same_run(tmp_path / "s" / "0", whole)
    assert json.loads((tmp_path / "s" / "1" / "summary.json").read_text())["steps"] == 15


def test_only_same_settings_are_resumed(train, tmp_path):
    short = ["trainer.max_epochs=1", "resume=last"]
    assert train(tmp_path, *short).returncode == 0
    other = train(tmp_path, *short, "seed=1")
    assert other.returncode == 0
    assert "is another run, they differ in data.seed, seed" in other.stdout
    assert len(list(tmp_path.glob("outputs/*/*"))) == 2
    longer = train(tmp_path, "trainer.max_epochs=2", "seed=1", "resume=last")
    assert "epoch 1, step 5" in longer.stdout
    assert len(list(tmp_path.glob("outputs/*/*"))) == 2


def test_interrupted_extension_is_not_finished(train, tmp_path):
    here = ["hydra.run.dir=here", "resume=last"]
    assert train(tmp_path, *here, "trainer.max_epochs=1").returncode == 0
    summary = tmp_path / "here" / "summary.json"
    assert json.loads(summary.read_text())["epochs"] == 1
    assert train(tmp_path, *here, *cut("SignalAt", hook="on_train_batch_start", count=1)).returncode == -9
    assert not summary.exists()
    assert train(tmp_path, *here).returncode == 0
    assert json.loads(summary.read_text())["epochs"] == 3


def test_new_run_keeps_old_checkpoint(train, tmp_path):
    here = ["hydra.run.dir=here", "trainer.max_epochs=1"]
    assert train(tmp_path, *here).returncode == 0
    old = (tmp_path / "here" / "checkpoints" / "last.ckpt").read_bytes()
    again = train(tmp_path, *here, "seed=1")
    assert "here/checkpoints/last.ckpt is of an earlier run (resume=last resumes it)" in again.stdout
    assert (tmp_path / "here" / "checkpoints" / "replaced.ckpt").read_bytes() == old
    assert len((tmp_path / "here" / "metrics.csv").read_text().splitlines()) == 5


def test_folder_is_locked(train, tmp_path):
    (tmp_path / "here").mkdir()
    with (tmp_path / "here" / ".running").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        result = train(tmp_path, "hydra.run.dir=here", "resume=last")
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line == "error: here: another process is training there; stop it, or choose another hydra.run.dir"


def test_nan_loss_names_images(train, tmp_path):
    result = train(tmp_path, *cut("Poison", step=7))
    assert result.returncode == 1
    folder = only_run(tmp_path)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: the loss is nan at step 7 (epoch 1, batch 2): ")
    assert "Traceback" not in result.stderr
    found = json.loads((folder / "bad_batch.json").read_text())
    assert (found["seed"], found["epoch"], found["step"]) == (0, 1, 7)
    assert found["losses"]["loss"] == "nan"
    assert len(found["images"]) == 8
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in saved["state_dict"].values())
