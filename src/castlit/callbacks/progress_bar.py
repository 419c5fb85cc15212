"""A progress bar for what a callback does between a trainer's steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from castlit.utils.progress import progress


@contextmanager
def counted(trainer: pl.Trainer, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far some work has come, where the trainer shows its own.

    Args:
        trainer: Whose bar it joins: two live displays would be in each other's way.
        title: What is done.
        total: Of how many.

    Yields:
        What to call with the number of those that have been done since.
    """
    bar = trainer.progress_bar_callback
    if bar is None or not trainer.is_global_zero:
        yield lambda count: None
    elif isinstance(bar, RichProgressBar) and bar.progress is not None:
        theirs = bar.progress
        task = theirs.add_task(title, total=total)

        def advance(count: int) -> None:
            theirs.advance(task, count)
            bar.refresh()

        try:
            bar.refresh()
            yield advance
        finally:
            theirs.remove_task(task)
    else:
        with progress(title) as own:
            number = own.add_task("", total=total, rate="")
            yield lambda count: own.advance(number, count)
