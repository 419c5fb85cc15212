"""Masks by a network in this process, with threads that read ahead."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from castlit.saliency.one_mask import Opened, Outcome, Recipe, finish, try_open
from castlit.saliency.superpixels import Image, Map

AHEAD = 4
"""Images for each thread that are read before their turn."""


def in_threads(
    recipe: Recipe, predict: Callable[[Image], Map], names: Iterable[str], threads: int
) -> Iterator[Outcome]:
    """Make masks one after the other, by something that cannot be sent to other processes.

    Args:
        recipe: What is done to each image.
        predict: From an upright RGB image to its map; called here only.
        names: Of the images; read as the work goes on.
        threads: At least 1.
    """
    rest = iter(names)
    waiting: deque[tuple[str, Future[Opened | Outcome]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            for name in itertools.islice(rest, AHEAD * threads - len(waiting)):
                waiting.append((name, pool.submit(try_open, recipe, name)))
            if not waiting:
                return
            name, future = waiting.popleft()
            opened = future.result()
            yield opened if isinstance(opened, Outcome) else finish(recipe, predict, name, opened)
    finally:
        pool.shutdown(cancel_futures=True)
