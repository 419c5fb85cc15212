"""A loader whose worker processes end with this process, whatever ended it."""

import atexit
import contextlib
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any
from weakref import WeakSet

from torch.utils.data import DataLoader

_GRACE_S = 3
"""Idle workers end at once, busy ones after their batch; those that hang are killed after this time."""

_RUNNING: WeakSet[Any] = WeakSet()
"""The iterators that have workers."""


class WorkerLoader(DataLoader[Any]):
    """A ``DataLoader`` whose workers are ended at the latest when this process exits.

    Python's own exit sends SIGTERM to the workers and waits for them without a limit. castlit's leave the first SIGTERM
    to the training process (see :func:`castlit.utils.signals.defer_signals`), so each would wait for the other forever
    where an error keeps the iterator alive.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        iterator = super().__iter__()
        if self.num_workers:
            _RUNNING.add(iterator)
            # Now, not at import: handlers run in reverse order, and this one belongs before torch's and Python's.
            _end_at_exit()
        return iterator


def end_workers() -> None:
    """End the workers of all loaders of this process, within seconds; for the end of a run that failed."""
    running = list(_RUNNING)
    hanging = threading.Timer(_GRACE_S, _kill, (running,))
    hanging.daemon = True
    # Newer Pythons may start no thread while they exit; torch then waits 5 s for a worker that hangs.
    with contextlib.suppress(RuntimeError):
        hanging.start()
    for iterator in running:
        # torch reports a killed worker as an error of the thread that waits for it.
        with contextlib.suppress(RuntimeError):
            iterator._shutdown_workers()  # what torch itself calls when an iterator is collected
    hanging.cancel()
    _RUNNING.clear()


@cache
def _end_at_exit() -> None:
    atexit.register(end_workers)


def _kill(iterators: list[Any]) -> None:
    for iterator in iterators:
        for worker in iterator._workers:
            worker.kill()
