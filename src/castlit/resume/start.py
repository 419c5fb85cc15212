"""Where a training run starts: from scratch, or from a checkpoint; and how it goes on when it was stopped."""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from castlit.callbacks import LastCheckpoint, MetricsCSV
from castlit.cli.app import output_dir
from castlit.module import CASTModule
from castlit.resume.exact_resume import KEY
from castlit.resume.find_run import LAST, wanted
from castlit.resume.read_checkpoint import epochs_done, read_resumable
from castlit.utils.paths import shown
from castlit.utils.signals import Stopped


def starting_point(config: DictConfig, module: CASTModule, trainer: pl.Trainer, loggers: list[object]) -> Path | None:
    """Find the checkpoint to start from; say so, and let the log go on where the run goes on in its folder.

    Args:
        config: The run's.
        module: What shall go on.
        trainer: That will train it.
        loggers: Its loggers, before they log.

    Returns:
        The checkpoint; None to start from scratch.

    Raises:
        InputError: The checkpoint cannot be gone on with.
    """
    resume, folder = wanted(config.resume), output_dir()
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    last = next((callback.path for callback in callbacks if isinstance(callback, LastCheckpoint)), None)
    path = last if resume == LAST else None if resume is None else Path(resume)
    if path is None or (resume == LAST and not path.is_file()):
        if resume is not None:
            rank_zero_only(print)(f"resume=last: nothing to resume yet, starting from scratch in {shown(folder)}")
        elif last is not None and last.is_file() and not config.trainer.fast_dev_run:
            _put_aside(last)
        return None
    checkpoint = read_resumable(path, module, trainer.max_epochs, complete=resume == LAST)
    if path.absolute().is_relative_to(folder.absolute()):
        for logger in loggers:
            if isinstance(logger, MetricsCSV) and KEY in checkpoint:
                logger.keep(checkpoint[KEY]["rows"])
    at = f"epoch {epochs_done(checkpoint)}, step {checkpoint['global_step']}"
    rank_zero_only(print)(f"resume={resume}: going on from {shown(path)}, at {at}, in {shown(folder)}")
    return path


@rank_zero_only
def _put_aside(last: Path) -> None:
    """A new run in an old run's folder takes its place; but days of training should not hang on a forgotten word."""
    last.replace(last.with_name("replaced.ckpt"))
    print(f"{shown(last)} is of an earlier run (resume=last goes on with it): it is now replaced.ckpt")


def forget_the_last_end(folder: Path) -> None:
    """Remove what an earlier fit in this folder left at its end: broken off, this one would be taken for done.

    Args:
        folder: The run's.
    """
    for name in ("summary.json", "bad_batch.json"):
        (folder / name).unlink(missing_ok=True)


@rank_zero_only
def say_how_to_go_on(stop: Stopped, trainer: pl.Trainer) -> None:
    """Tell what a signal left: one line on standard error."""
    last: Any = trainer.checkpoint_callback
    saved = getattr(last, "last_model_path", "")
    way = f"saved {shown(Path(saved))}, of step {last.saved_step}; resume=last goes on" if saved else "nothing is saved"
    print(f"stopped by {stop.name} at step {trainer.global_step}: {way}", file=sys.stderr)
