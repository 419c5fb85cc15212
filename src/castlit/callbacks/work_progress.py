"""The progress of a callback's work between training steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from castlit.utils.lightning import pl
from castlit.utils.progress_log import ProgressLog


@contextmanager
def progress_of(trainer: pl.Trainer, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of some work, if the trainer has a progress bar.

    Args:
        trainer: Its rich progress bar gets a task: two live displays would overwrite each other.
        title: Name of the work.
        total: Number of items.

    Yields:
        A function to call with the number of items done since the last call.
    """
    bar = trainer.progress_bar_callback
    if bar is None or not trainer.is_global_zero:
        yield lambda count: None
    elif isinstance(bar, pl.callbacks.RichProgressBar) and bar.progress is not None:
        live = bar.progress
        task = live.add_task(title, total=total)

        def advance(count: int) -> None:
            live.advance(task, count)
            bar.refresh()

        try:
            bar.refresh()
            yield advance
        finally:
            live.remove_task(task)
    else:
        with ProgressLog(title, total) as own_bar:
            yield own_bar.advance
