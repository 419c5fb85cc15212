"""Map over many items in threads, with a bounded number of items in flight."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 4
"""Items per thread that are running, or done and not consumed yet."""

ItemT = TypeVar("ItemT")
T = TypeVar("T")


def in_threads(work: Callable[[ItemT], T], items: Iterable[ItemT], threads: int) -> Iterator[T]:
    """``map(work, items)`` in threads, in order: for work on an accelerator, which processes would not share.

    Args:
        work: Called by several threads at once.
        items: Read lazily.
        threads: At least 1.
    """
    rest = iter(items)
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            waiting.extend(pool.submit(work, item) for item in itertools.islice(rest, AHEAD * threads - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
