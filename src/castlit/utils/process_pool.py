"""Work on many items in many processes: a few ahead, no more; and none of them outlives this one."""

import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import TypeVar

import cv2
from PIL import Image
from threadpoolctl import threadpool_limits

from castlit.utils.validation import InputError

AHEAD = 4
"""Items for each process that are under way or done and not yet asked for."""

ItemT = TypeVar("ItemT")
T = TypeVar("T")


def in_processes(
    work: Callable[[ItemT], T], items: Iterable[ItemT], processes: int, died: Callable[[ItemT], T]
) -> Iterator[T]:
    """``map(work, items)`` on all of these processes, in order.

    However many items there are, only a few are kept. A process that dies (out of memory, a library that crashes) takes
    its pool with it; what the pool had under way is then tried one by one, and whose process dies again is given up.

    When the caller stops early or dies, whatever way, the processes end at once.

    Args:
        work: Can be pickled. Its exceptions are raised here.
        items: What to work on, can be pickled; read as the work goes on.
        processes: At least 1; each computes with one thread. 0 works here, in this process.
        died: The result for an item that kills the process that works on it.

    Raises:
        InputError: Every process dies.
    """
    if processes == 0:
        yield from map(work, items)
        return
    rest = iter(items)
    while True:
        suspects = yield from _until_one_dies(work, rest, processes)
        if not suspects:
            return
        results = [_alone(work, item) for item in suspects]
        if len(suspects) > 1 and not any(results):
            raise InputError(
                "every process that makes maps dies (out of memory?): give fewer workers, or workers=0 to see why"
            )
        for item, result in zip(suspects, results, strict=True):
            yield result[0] if result else died(item)


def _until_one_dies(
    work: Callable[[ItemT], T], rest: Iterator[ItemT], processes: int
) -> Generator[T, None, list[ItemT]]:
    """Yield results; return the items that were lost with the pool."""
    waiting: deque[ItemT] = deque()
    futures: deque[Future[T]] = deque()
    with _pool(processes) as pool:
        try:
            while True:
                for item in itertools.islice(rest, AHEAD * processes - len(waiting)):
                    waiting.append(item)  # first, as the pool may be broken by now
                    futures.append(pool.submit(work, item))
                if not waiting:
                    return []
                yield futures[0].result()
                waiting.popleft()
                futures.popleft()
        except BrokenProcessPool:
            return list(waiting)


def _alone(work: Callable[[ItemT], T], item: ItemT) -> tuple[T] | None:
    """The result of an item in a process of its own; None where that dies."""
    with _pool(1) as pool:
        try:
            return (pool.submit(work, item).result(),)
        except BrokenProcessPool:
            return None


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end when the context does, in the middle of their work if need be."""
    safe = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if safe else "spawn")
    if safe:
        # Imports once what all processes need. Not fork: this process has threads, whose locks would be copied.
        forkserver.set_forkserver_preload(["castlit.saliency.pipeline.one_mask"])
        with _ctrl_c_is_ours():
            forkserver.ensure_running()
    leash, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _prepare, (leash,))
    try:
        yield pool
    except BaseException:
        held.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        held.close()
        leash.close()


def _prepare(leash: Connection) -> None:
    """In a new process: one thread, no chatter, and an end when the other end of ``leash`` is let go."""
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
def _ctrl_c_is_ours() -> Iterator[None]:
    """What is started in this context does not listen to the terminal: this process decides what Ctrl-C means."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
