"""A loader whose worker processes end with this process, and whose batches fit into the shared memory."""

import atexit
import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.utils.data import DataLoader, default_collate, get_worker_info

from castlit.data.io.errors import SampleError
from castlit.utils.signals import StoppedWaiting, waiting_for_batch
from castlit.utils.validation import InputError

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps the batches that workers hand over."""

_GRACE_S = 3
"""Idle workers end at once, busy ones after their batch; those that hang are killed after this time."""

_RUNNING: WeakSet[Any] = WeakSet()
"""The iterators that have workers."""

_END = object()


class SharedMemoryError(SampleError):
    """A batch does not fit into the shared memory."""


class WorkerLoader(DataLoader[Any]):
    """A ``DataLoader`` whose workers are ended at the latest when this process exits.

    Python's own exit sends SIGTERM to the workers and waits for them without a limit. castlit's leave the first SIGTERM
    to the training process (see :func:`castlit.utils.signals.defer_signals`), so each would wait for the other forever
    where an error keeps the iterator alive.

    Args:
        *args: As for ``DataLoader``.
        **options: As for ``DataLoader``.

    Raises:
        SharedMemoryError: While iterating: a batch does not fit into the shared memory.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        if self.num_workers:
            self.collate_fn = _InSharedMemory(self.collate_fn)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        iterator = super().__iter__()
        if not self.num_workers:
            return iterator
        _RUNNING.add(iterator)
        # Now, not at import: handlers run in reverse order, and this one belongs before torch's and Python's.
        _end_at_exit()
        return _batches(iterator)


def _batches(iterator: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            with waiting_for_batch():
                batch = next(iterator, _END)
        except StoppedWaiting:
            _end([iterator], grace_s=0)  # they hang: Lightning would wait 10 s for each
            raise
        if batch is _END:
            return
        yield batch


class _InSharedMemory:
    """Collates a batch, and moves it into the shared memory.

    torch does so later, in a thread of the worker. Where there is no space left, that thread drops the batch, and the
    training process waits for it forever. Here, the error reaches the training process.
    """

    def __init__(self, collate: Callable[[list[Any]], Any] | None) -> None:
        self.collate = collate or default_collate

    def __call__(self, samples: list[Any]) -> Any:  # noqa: ANN401
        batch = self.collate(samples)
        if get_worker_info() is not None:
            try:
                _share(batch)
            except RuntimeError as error:
                why = str(error).strip()
                if "Too many open files" in why:
                    line = f"{why}: raise the limit (ulimit -n 65536), or set data.workers=0 (or protocol.workers=0)"
                    raise SharedMemoryError(line) from None
                raise SharedMemoryError(_too_small(why)) from None
        return batch


def _share(batch: Any) -> None:  # noqa: ANN401
    if isinstance(batch, Tensor):
        batch.share_memory_()  # type: ignore[no-untyped-call]
    elif isinstance(batch, (Mapping, list, tuple)):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            _share(part)


def require_shared_memory(batch_bytes: int, workers: int) -> None:
    """Check that the workers' batches fit into the shared memory, as far as it can be known before they are made.

    Args:
        batch_bytes: Size of a batch.
        workers: Loader processes on this machine.

    Raises:
        InputError: The batches that are there at once are larger than the free space: two of each worker, which works
            ahead, one that is in use, and the next one.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    needed, free = batch_bytes * (2 * workers + 2), shutil.disk_usage(SHARED_MEMORY).free
    if free < needed:
        have = f"{workers} loader processes need {_size(needed)} for batches of {_size(batch_bytes)}"
        raise InputError(_too_small(f"{_size(free)} are free; {have}"))


def _too_small(why: str) -> str:
    return (
        f"the shared memory {SHARED_MEMORY} is too small ({why}): give a container more (docker run --shm-size=8g), "
        "or set data.workers=0 (protocol.workers=0 where the protocol has it), fewer workers, or a smaller batch_size"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def end_workers() -> None:
    """End the workers of all loaders of this process, within seconds; for the end of a run that failed."""
    _end(list(_RUNNING), _GRACE_S)
    _RUNNING.clear()


def _end(iterators: list[Any], grace_s: float) -> None:
    hanging = threading.Timer(grace_s, _kill, (iterators,))
    hanging.daemon = True
    # Newer Pythons may start no thread while they exit; torch then waits 5 s for a worker that hangs.
    with contextlib.suppress(RuntimeError):
        hanging.start()
    for iterator in iterators:
        # torch reports a killed worker as an error of the thread that waits for it.
        with contextlib.suppress(RuntimeError):
            iterator._shutdown_workers()  # what torch itself calls when an iterator is collected
    hanging.cancel()


@cache
def _end_at_exit() -> None:
    atexit.register(end_workers)


def _kill(iterators: list[Any]) -> None:
    for iterator in iterators:
        for worker in iterator._workers:
            worker.kill()
