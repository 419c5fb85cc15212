"""Save the position of a fit, and restore it.

Lightning saves most of it. It resumes within an epoch as if the last batch had not been logged, skips a validation that
was due, and ignores the loader's position where a module asked for the length of the data early. These functions
correct that. Tests compare runs that were interrupted everywhere with uninterrupted ones.
"""

from typing import Any, Literal

from castlit.utils import lightning_internals as lightning
from castlit.utils.lightning import pl

Position = Literal["between", "stepped", "validation", "validated", "epoch"]
"""Between two batches; after a step that is not logged yet; within a validation, or after it; after an epoch."""

State = dict[str, Any]


def find_position(trainer: pl.Trainer, validated: bool) -> Position | None:
    """Return the position of the fit; None within a step, from where nothing can resume exactly, and before the first.

    Args:
        trainer: In a fit.
        validated: Whether the current validation, if there is one, has finished.
    """
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    epochs: Any = trainer.fit_loop.epoch_progress.current
    if epochs.ready == 0:
        return None  # Nothing is done yet: to resume from here is to start.
    if trainer.validating:
        return "validated" if validated else "validation"
    if batches.started < batches.ready:
        return "between"
    if batches.completed < batches.processed:
        return "stepped"
    if batches.processed < batches.ready:
        return None
    # Time or steps may end an epoch early; the rest of it is still to come.
    ended = epochs.processed == epochs.ready and lightning.epoch_is_complete(trainer)
    return "epoch" if ended else "between"


def save_position(trainer: pl.Trainer, position: Position, loaders: list[State], loops: State) -> State:
    """Return what Lightning does not save, and correct what it does.

    Args:
        trainer: In a fit.
        position: From :func:`find_position`.
        loaders: The loaders' states after the last batch. Lightning would save the current ones, and a batch may have
            been fetched that is not trained on yet.
        loops: The state of the fit loop in the checkpoint; changed.
    """
    if loaders:
        loops["state_dict"]["combined_loader"] = loaders
    epochs = loops["epoch_progress"]
    if position == "between" and epochs["current"]["processed"] == epochs["current"]["ready"]:
        for tracker in (epochs["current"], epochs["total"]):
            tracker["processed"] -= 1
            tracker["completed"] = min(tracker["completed"], tracker["processed"])
    return {"place": position, "logged_steps": lightning.logged_steps(trainer)}


def restore_position(trainer: pl.Trainer, saved: State, loaders: list[State]) -> None:
    """Set the loops to a saved position; called when Lightning has set them up and not started yet.

    Args:
        trainer: In a fit.
        saved: From :func:`save_position`.
        loaders: The loaders' states in the checkpoint.
    """
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    position: Position = saved["place"]
    lightning.set_logged_steps(trainer, saved["logged_steps"])
    if position == "epoch":
        for tracker in _trackers(fit.epoch_progress):
            tracker.ready = tracker.started = tracker.completed = tracker.processed
        lightning.restart_after_epoch(trainer)
        return
    for tracker in _trackers(fit.epoch_progress):
        tracker.started = tracker.ready
        tracker.processed = tracker.completed = tracker.ready - 1
    lightning.restart_in_epoch(trainer, after_validation=position == "validated")
    for tracker in _trackers(epoch.batch_progress):
        tracker.ready = tracker.started = tracker.completed = tracker.processed
    if position == "between":
        epoch.batch_progress.is_last_batch = False  # that was the batch before
    lightning.load_loader_states(trainer, loaders)
    if position == "stepped" and lightning.validation_is_due(trainer):
        position = "validation"
    if position in ("between", "validation") and not lightning.accumulates(trainer):
        # The loop counts the last step again: at its start, or at the end of the validation.
        lightning.set_logged_steps(trainer, saved["logged_steps"] - 1)
    if position == "validation":
        _reset_validation(trainer)


def _reset_validation(trainer: pl.Trainer) -> None:
    progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    done = progress.current.completed
    progress.current.reset()
    total = progress.total
    total.ready = total.started = total.processed = total.completed = total.completed - done
    lightning.restart_validation(trainer)


def _trackers(progress: Any) -> tuple[Any, Any]:  # noqa: ANN401 - Lightning's progress
    return progress.current, progress.total
