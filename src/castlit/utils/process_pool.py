"""Map over many items in processes that survive a crash of one of them and end with this process."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import TypeVar

import cv2
from PIL import Image
from threadpoolctl import threadpool_limits

from castlit.utils.validation import InputError

AHEAD = 4
"""Items per process that are running, or done and not consumed yet."""

ItemT = TypeVar("ItemT")
T = TypeVar("T")


def in_processes(
    work: Callable[[ItemT], T],
    items: Iterable[ItemT],
    processes: int,
    died: Callable[[ItemT], T],
    preload: Sequence[str] = (),
) -> Iterator[T]:
    """``map(work, items)`` in processes, in order, with a bounded number of items in flight.

    A process that dies (out of memory, a crash in a library) breaks its pool. The items that were in flight are then
    tried one by one; an item whose process dies again gets the result of ``died``.

    The processes end as soon as the caller stops iterating or dies.

    Args:
        work: A picklable function. Its exceptions are raised here.
        items: Picklable; read lazily.
        processes: Number of processes, each with one thread; 0 works in this process.
        died: Gives the result for an item that kills its process.
        preload: Modules that all processes need besides that of ``work``, and that are to be imported only once. They
            count in this process's first call: the processes of later calls come from the same server.

    Raises:
        InputError: Every process dies.
    """
    if processes == 0:
        yield from map(work, items)
        return
    rest = iter(items)
    preload = [_module(work), *preload]
    while True:
        suspects = yield from _until_one_dies(work, rest, processes, preload)
        if not suspects:
            return
        results = [_alone(work, item, preload) for item in suspects]
        if len(suspects) > 1 and not any(results):
            raise InputError("every worker process died (out of memory?): give fewer workers, or workers=0 to see why")
        for item, result in zip(suspects, results, strict=True):
            yield result[0] if result else died(item)


def _until_one_dies(
    work: Callable[[ItemT], T], rest: Iterator[ItemT], processes: int, preload: Sequence[str]
) -> Generator[T, None, list[ItemT]]:
    """Yield results; return the items that a broken pool lost."""
    waiting: deque[ItemT] = deque()
    futures: deque[Future[T]] = deque()
    with _pool(processes, preload) as pool:
        try:
            while True:
                for item in itertools.islice(rest, AHEAD * processes - len(waiting)):
                    waiting.append(item)  # first: submit raises where the pool is broken
                    futures.append(pool.submit(work, item))
                if not waiting:
                    return []
                yield futures[0].result()
                waiting.popleft()
                futures.popleft()
        except BrokenProcessPool:
            return list(waiting)


def _alone(work: Callable[[ItemT], T], item: ItemT, preload: Sequence[str]) -> tuple[T] | None:
    """The result of an item in a pool of one process; None where that dies."""
    with _pool(1, preload) as pool:
        try:
            return (pool.submit(work, item).result(),)
        except BrokenProcessPool:
            return None


def _module(work: Callable[[ItemT], T]) -> str:
    function = work.func if isinstance(work, partial) else work
    return str(function.__module__)


@contextmanager
def _pool(processes: int, preload: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the context, even in the middle of their work."""
    safe = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if safe else "spawn")
    if safe:
        # Imports once what all processes need. Not fork: it would copy the locks of this process's threads.
        forkserver.set_forkserver_preload([*preload, *_imported_by_program()])
        with _ignoring_ctrl_c():
            forkserver.ensure_running()
    leash, our_end = context.Pipe(duplex=False)
    try:
        pool = ProcessPoolExecutor(processes, context, _prepare, (leash,))
    except OSError as error:  # its locks are files in /dev/shm
        raise InputError(f"no processes can be started ({error.strerror or error}): give workers=0") from None
    try:
        yield pool
    except BaseException:
        our_end.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        our_end.close()
        leash.close()


def _imported_by_program() -> list[str]:
    """What the file of the castlit program imports that is running: each new process runs that file again."""
    main = sys.modules["__main__"]
    if main.__spec__ is None or not main.__spec__.name.startswith("castlit."):
        return []
    homes = {str(getattr(each, "__module__", "")) for each in vars(main).values() if callable(each)}
    return sorted(home for home in homes if home.startswith("castlit."))


def _prepare(leash: Connection) -> None:
    """Set up a new process: one thread, no warnings, and exit when the other end of ``leash`` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)
    threadpool_limits(1)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    threading.Thread(target=_end_with, args=(leash,), daemon=True, name="leash").start()


def _end_with(leash: Connection) -> None:
    try:
        leash.recv()
    except (EOFError, OSError):
        os._exit(0)


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Processes that are started within the context ignore Ctrl-C: this process handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
