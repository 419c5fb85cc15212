"""Where a run stands, and how to stand there again.

Lightning keeps most of it, and loses the rest: it takes up an epoch in the middle as if its last batch had not been
logged, leaves out a validation that was due, and does not look at the loader's position where a module asked for the
length of the data early. These functions put its loops exactly where they were. They reach into Lightning 2.6; the
tests compare runs that are broken off everywhere with unbroken ones, and would notice if it changed.
"""

from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.loops.evaluation_loop import RestartStage as Evaluation
from pytorch_lightning.loops.fit_loop import RestartStage as Fit
from pytorch_lightning.loops.loop import _Loop
from pytorch_lightning.loops.training_epoch_loop import RestartStage as Epoch

Place = Literal["between", "stepped", "validation", "validated", "epoch"]
"""Between two batches; behind a step that is not logged yet; within a validation, or behind it; behind an epoch."""

State = dict[str, Any]


def place(trainer: pl.Trainer, validated: bool) -> Place | None:
    """Where the fit stands; None within a step, from where nothing can go on exactly.

    Args:
        trainer: In a fit.
        validated: Whether a validation that runs has come to its end.
    """
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    epochs: Any = trainer.fit_loop.epoch_progress.current
    if trainer.validating:
        return "validated" if validated else "validation"
    if batches.started < batches.ready:
        return "between"
    if batches.completed < batches.processed:
        return "stepped"
    if batches.processed < batches.ready:
        return None
    # Time or steps may end an epoch early; the rest of it is still to come.
    whole = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
    return "epoch" if epochs.processed == epochs.ready and whole else "between"


def note(trainer: pl.Trainer, where: Place, loaders: list[State], loops: State) -> State:
    """Return what Lightning does not keep, and correct what it does.

    Args:
        trainer: In a fit.
        where: From :func:`place`.
        loaders: The loaders' states when the last batch was done; Lightning would keep those of now, and a batch may
            have been fetched that is not trained on yet.
        loops: The state of the fit loop in the checkpoint; changed.
    """
    if loaders:
        loops["state_dict"]["combined_loader"] = loaders
    epochs = loops["epoch_progress"]
    if where == "between" and epochs["current"]["processed"] == epochs["current"]["ready"]:
        for tracker in (epochs["current"], epochs["total"]):
            tracker["processed"] -= 1
            tracker["completed"] = min(tracker["completed"], tracker["processed"])
    return {"place": where, "logged_steps": trainer.fit_loop.epoch_loop._batches_that_stepped}


def take_up(trainer: pl.Trainer, position: State, loaders: list[State]) -> None:
    """Put the loops where :func:`note` found them; called when Lightning has set them up and not started yet."""
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    where: Place = position["place"]
    epoch._batches_that_stepped = position["logged_steps"]
    if where == "epoch":
        _finish_epoch(fit)
        return
    _within_epoch(fit)
    batches = epoch.batch_progress
    for tracker in (batches.current, batches.total):
        tracker.ready = tracker.started = tracker.completed = tracker.processed  # type: ignore[attr-defined]
    if where == "between":
        batches.is_last_batch = False  # that was said of the batch behind
    if loaders and fit._combined_loader is not None and fit._data_fetcher is not None:
        fit._combined_loader._load_state_dicts(loaders)
        iter(fit._data_fetcher)
    if where == "stepped" and fit._data_fetcher is not None and epoch._should_check_val_fx(fit._data_fetcher):
        where = "validation"
    epoch._restart_stage = Epoch.NONE
    if where == "validated":
        epoch._restart_stage = Epoch.RESTARTED_ON_LAST
    elif where != "stepped" and not epoch._should_accumulate():
        # The loop will count the last step again: as it starts, or for a validation as that ends.
        epoch._batches_that_stepped -= 1
    if where == "validation":
        _begin_validation(epoch.val_loop)


def _within_epoch(fit: Any) -> None:  # noqa: ANN401 - Lightning's loop
    for tracker in (fit.epoch_progress.current, fit.epoch_progress.total):
        tracker.started = tracker.ready
        tracker.processed = tracker.completed = tracker.ready - 1
    fit._restart_stage = Fit.RESTARTED_MID_EPOCH
    _set_restarting(fit, True)


def _finish_epoch(fit: Any) -> None:  # noqa: ANN401 - Lightning's loop
    for tracker in (fit.epoch_progress.current, fit.epoch_progress.total):
        tracker.ready = tracker.started = tracker.completed = tracker.processed
    fit._restart_stage = Fit.NONE
    _set_restarting(fit, False)


def _begin_validation(loop: Any) -> None:  # noqa: ANN401 - Lightning's loop
    done = loop.batch_progress.current.completed
    loop.batch_progress.current.reset()
    total = loop.batch_progress.total
    total.ready = total.started = total.processed = total.completed = total.completed - done
    loop._restart_stage = Evaluation.RESTARTED_MID_EVALUATION


def _set_restarting(fit: Any, restarting: bool) -> None:  # noqa: ANN401 - Lightning's loop
    # The fit loop's own setter has a mind of its own, where max_steps is given.
    _Loop.restarting.fset(fit, restarting)  # type: ignore[attr-defined]
