"""Atomic checkpoints, the log's rows, random states, and signals and their handlers."""

import os
import random
import signal
import subprocess
import sys
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from castlit.callbacks import AtomicCheckpointIO, ExactResume, LastCheckpoint, MetricsCSV
from castlit.resume.checkpoint_io import remove_partial
from castlit.resume.rng_state import random_state, set_random_state
from castlit.utils.signals import Stopped, StopSignals
from castlit.utils.validation import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_failed_write_keeps_old_checkpoint(tmp_path):
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(2)}, path)
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(2), "y": lambda: None}, path)
    assert torch.equal(torch.load(path)["x"], torch.ones(2))
    assert names(path.parent) == ["last.ckpt"]


def test_partial_files_are_removed(tmp_path):
    for name in (".last.ckpt.4711.partial", "last.ckpt", "notes.partial"):
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert names(tmp_path) == ["last.ckpt", "notes.partial"]
    remove_partial(tmp_path / "nowhere")


def rows(path):
    return path.read_text().splitlines()


def test_log_keeps_rows(tmp_path):
    first = MetricsCSV(tmp_path, name="", version="")
    for step in range(5):
        first.log_metrics({"loss": step / 3, **({"val": 1.0} if step == 3 else {})}, step)
        first.save()
    assert first.rows == 5
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("0.1,5")  # killed within a row
    whole = rows(tmp_path / "metrics.csv")[:-1]

    second = MetricsCSV(tmp_path, name="", version="")
    second.keep(rows=2)
    for step in range(2, 5):
        second.log_metrics({"loss": step / 3, **({"val": 1.0} if step == 3 else {})}, step)
        second.save()
        assert rows(tmp_path / "metrics.csv") == whole[: step + 2]
    assert rows(tmp_path / "metrics.csv") == whole
    assert second.rows == 5

    third = MetricsCSV(tmp_path, name="", version="")
    third.log_metrics({"other": 1.0}, 0)
    third.save()
    assert rows(tmp_path / "metrics.csv") == ["other,step", "1.0,0"], "a new run starts a new file"


def test_random_state_is_restored(tmp_path):
    def draw():
        return torch.rand(2).tolist(), np.random.randn(3).tolist(), random.gauss(0, 1)  # noqa: NPY002

    draw()
    torch.save(random_state(), tmp_path / "state")
    expected = draw(), draw()
    draw()
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert (draw(), draw()) == expected


def trainer_of(folder, callbacks, validate_first=False):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=8,
        limit_val_batches=int(validate_first),
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=any(isinstance(callback, LastCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def fit(folder, *callbacks, module=None, validate_first=False, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trainer_of(folder, [*callbacks, LastCheckpoint(folder, **options)], validate_first)
        module = module or BoringModel()
        if validate_first:
            trainer.validate(module, verbose=False)
        trainer.fit(module)
    return trainer


class Steps(pl.Callback):
    """Sends signals at steps, and notes which steps there were."""

    def __init__(self, signals):
        self.signals, self.seen, self.saved = signals, [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(trainer.global_step)
        for number in self.signals.get(trainer.global_step, ()):
            os.kill(os.getpid(), number)


@pytest.fixture
def handled():
    """Puts handlers in place as another program would, and takes them away again."""
    before = {}

    def put(number, handler):
        before[number] = signal.signal(number, handler)

    yield put
    for number, handler in before.items():
        signal.signal(number, handler)


def test_one_callback_for_two_runs(tmp_path):
    """Of the same length: the second's weights are those of last.ckpt."""
    keeper = LastCheckpoint(tmp_path)
    for seed in (1, 2):
        torch.manual_seed(seed)
        module = BoringModel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer_of(tmp_path, [keeper]).fit(module)
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
        for name, value in module.state_dict().items():
            assert torch.equal(saved[name], value), name


def test_resuming_within_an_epoch_without_the_loaders_position(tmp_path, caplog):
    with pytest.raises(Stopped):
        fit(tmp_path, Steps({3: [signal.SIGTERM]}), ExactResume())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trainer_of(tmp_path, [ExactResume()])
        trainer.fit(BoringModel(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert "so it begins anew: the images of the first 3 batches of this epoch come again" in caplog.text


def test_earlier_handler_is_called_after_saving(tmp_path, handled):
    told = []

    def bypass(number, frame):
        told.append((number, torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"]))

    handled(signal.SIGTERM, bypass)
    steps = Steps({3: [signal.SIGTERM], 6: [signal.SIGTERM]})
    fit(tmp_path, steps)
    assert told == [(signal.SIGTERM, 3), (signal.SIGTERM, 6)]
    assert steps.seen == list(range(1, 9))


def test_earlier_handler_may_end_the_process(tmp_path, handled):
    def requeue(number, frame):
        sys.exit(-1)

    handled(signal.SIGUSR2, requeue)
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, Steps({5: [signal.SIGUSR2]}))
    assert stop.value.code == -1
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 5
    assert signal.getsignal(signal.SIGUSR2) is requeue


def test_second_ctrl_c_stops_at_once(tmp_path):
    steps = Steps({2: [signal.SIGINT, signal.SIGINT]})
    with pytest.raises(Stopped) as stop:
        fit(tmp_path, steps)
    assert (stop.value.code, stop.value.name) == (130, "Ctrl-C")
    assert not (tmp_path / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signal_stays_ignored(tmp_path, handled):
    handled(signal.SIGINT, signal.SIG_IGN)  # as for a shell's background job
    steps = Steps({2: [signal.SIGINT]})
    fit(tmp_path, steps)
    assert len(steps.seen) == 8


class Early(BoringModel):
    """Sends a signal when Lightning handles it already, and the callback not yet."""

    def train_dataloader(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().train_dataloader()


@pytest.mark.parametrize("ignored", [False, True])
def test_signal_before_first_step(tmp_path, handled, ignored):
    if ignored:
        handled(signal.SIGTERM, signal.SIG_IGN)
    steps = Steps({})
    with nullcontext() if ignored else pytest.raises(Stopped):
        fit(tmp_path, steps, module=Early())
    assert len(steps.seen) == (8 if ignored else 0)


def test_signal_at_end_of_validation(tmp_path):
    class Late(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            os.kill(os.getpid(), signal.SIGTERM)

    steps = Steps({})
    with pytest.raises(Stopped):
        fit(tmp_path, steps, Late(), validate_first=True)
    assert steps.seen == []


def test_other_thread_handles_no_signals():
    import threading

    signals = StopSignals()
    thread = threading.Thread(target=lambda: (signals.remember([signal.SIGTERM]), signals.take_over()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_loader_process_ends_at_second_sigterm():
    code = (
        "import os, signal; from castlit.utils.signals import defer_signals; defer_signals()\n"
        "for number in (signal.SIGINT, signal.SIGTERM): os.kill(os.getpid(), number)\n"
        "print('here', flush=True); os.kill(os.getpid(), signal.SIGTERM); print('not here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (143, "here\n"), done.stderr


def test_checkpoint_io_is_replaced(tmp_path):
    assert isinstance(fit(tmp_path).strategy.checkpoint_io, AtomicCheckpointIO)


@pytest.mark.parametrize("options", [{"every_n_minutes": 0}, {"every_n_train_steps": 0}, {"every_n_minutes": "often"}])
def test_intervals_are_checked(options):
    with pytest.raises(InputError, match=f"callbacks.checkpoint.{next(iter(options))} must be"):
        LastCheckpoint(**options)


def test_saves_by_time_and_at_end(tmp_path):
    saved = []

    class Note(LastCheckpoint):
        def _save(self, trainer):
            super()._save(trainer)
            saved.append(trainer.global_step)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=4,
            limit_val_batches=0,
            callbacks=[Note(tmp_path, every_n_minutes=1e-9)],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(BoringModel())
    assert saved == [0, 1, 2, 3, 4]
    assert trainer.checkpoint_callback.last_model_path == str(tmp_path / "last.ckpt")
