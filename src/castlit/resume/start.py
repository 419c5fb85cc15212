"""Decide where a training starts, from scratch or from a checkpoint, and report how to resume it after a signal."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from castlit.reporting.metrics_csv import MetricsCSV
from castlit.resume.checkpoint_io import Checkpoint, epochs_done, read_checkpoint, require_resumable
from castlit.resume.exact_resume import KEY
from castlit.resume.request import LAST, PREVIOUS, requested
from castlit.utils.lightning import pl, rank_zero_only
from castlit.utils.paths import display_path
from castlit.utils.plain_file import DamagedFileError
from castlit.utils.signals import Stopped
from castlit.utils.validation import InputError

REPLACED = "replaced.ckpt"

Check = Callable[[Checkpoint, str], None]
"""Raises ``InputError`` for a checkpoint of another run, given the checkpoint and its name in messages."""


def start(
    resume: object,
    last: Path | None,
    folder: Path,
    *,
    key: str | None = "resume",
    kind: str = "castlit's training",
    check: Check | None = None,
    max_epochs: int | None = None,
    loggers: Iterable[object] = (),
) -> Path | None:
    """Find the checkpoint that a training starts from, check it, and print it.

    Where the training resumes within its folder, its ``metrics.csv`` keeps the rows that the checkpoint knows of. Where
    it starts anew over an earlier run's ``last.ckpt``, :func:`put_aside` that when the training begins. Where
    ``last.ckpt`` is damaged, ``"last"`` continues from ``previous.ckpt`` beside it, and says so.

    Args:
        resume: What the user gave: None, ``"last"``, or the path of a checkpoint. In a job that SLURM has requeued,
            None means ``"last"``.
        last: Where the run saves ``last.ckpt``; None if it saves none.
        folder: The run's.
        key: The name of ``resume`` in messages; None: the user has no say in it.
        kind: What messages call the training.
        check: Compares a checkpoint with this run; None: any checkpoint will do.
        max_epochs: Refuse a checkpoint, given by its path, that has this many epochs; None or -1: do not.
        loggers: The training's, before they log.

    Returns:
        The checkpoint; None to start from scratch.

    Raises:
        InputError: ``resume`` is none of these, or the checkpoint is missing, damaged, finished or of another run.
    """
    wish = requested(resume, key or "resume")
    prefix = f"{key}={wish}: " if key else ""
    path = last if wish == LAST else None if wish is None else Path(wish).expanduser()
    if wish == LAST and last is not None and not last.exists() and last.with_name(PREVIOUS).is_file():
        path = last.with_name(PREVIOUS)
        rank_zero_only(print)(f"{prefix}{display_path(last)} is missing: the one before it is used", file=sys.stderr)
    if path is None or (wish == LAST and not path.is_file()):
        if wish is not None:
            rank_zero_only(print)(f"{prefix}nothing to resume yet, starting from scratch in {display_path(folder)}")
        return None
    path, name, checkpoint = _read(path, wish, key, kind)
    done = epochs_done(checkpoint)
    if wish != LAST and max_epochs is not None and 0 <= max_epochs <= done:
        trained = f"{done} epoch{'s' * (done != 1)}"
        raise InputError(f"{name} has already trained {trained}: add trainer.max_epochs={done * 2} to continue")
    if check is not None:
        check(checkpoint, name)
    if path.absolute().is_relative_to(folder.absolute()) and KEY in checkpoint:
        for logger in loggers:
            if isinstance(logger, MetricsCSV):
                logger.keep(checkpoint[KEY]["rows"])
    where = f"epoch {done}, step {checkpoint['global_step']}"
    rank_zero_only(print)(f"{prefix}continuing from {display_path(path)}, at {where}, in {display_path(folder)}")
    return path


def _read(path: Path, wish: str | None, key: str | None, kind: str) -> tuple[Path, str, Checkpoint]:
    """Read a checkpoint; instead of a damaged last one, the one before, if the user leaves the choice to castlit."""

    def read(path: Path) -> tuple[Path, str, Checkpoint]:
        name = f"{key}={path}" if key else str(path)
        checkpoint = read_checkpoint(path, name, kind)
        require_resumable(checkpoint, name)
        return path, name, checkpoint

    previous = path.with_name(PREVIOUS)
    try:
        return read(path)
    except DamagedFileError as error:
        if path == previous or not previous.is_file():
            raise
        if wish != LAST:
            raise DamagedFileError(f"{error}; {display_path(previous)} is the one before it") from error
        found = read(previous)
        rank_zero_only(print)(f"{error}: the one before it is used", file=sys.stderr)
        return found


@rank_zero_only
def put_aside(last: Path, key: str = "resume") -> None:
    """Rename the last checkpoint of an earlier run: forgetting ``resume=last`` must not overwrite it.

    Args:
        last: Where this run will save its own.
        key: The name of ``resume`` in the message.
    """
    last.with_name(PREVIOUS).unlink(missing_ok=True)
    if last.is_file():
        last.replace(last.with_name(REPLACED))
        print(f"{display_path(last)} is of an earlier run ({key}=last resumes it): it is now {REPLACED}")


def remove_old_results(folder: Path) -> None:
    """Remove what an earlier fit in this folder left at its end: an interrupted run must not look finished.

    Args:
        folder: The run's.
    """
    for name in ("summary.json", "bad_batch.json"):
        (folder / name).unlink(missing_ok=True)


@rank_zero_only
def report_stop(stop: Stopped, trainer: pl.Trainer, resume: str = "resume=last") -> None:
    """Print one line on standard error: the signal, the checkpoint, and how to resume.

    Args:
        stop: The signal.
        trainer: The one that it stopped.
        resume: What to add to the command line.
    """
    last: Any = trainer.checkpoint_callback
    saved = getattr(last, "last_model_path", "")
    outcome = (
        f"saved {display_path(Path(saved))}, of step {last.saved_step}; {resume} continues"
        if saved
        else "nothing is saved"
    )
    print(f"stopped by {stop.name} at step {trainer.global_step}: {outcome}", file=sys.stderr)
