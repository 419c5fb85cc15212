"""How many threads PyTorch's operations on the CPU use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from castlit.utils.validation import require_int


@contextmanager
def cpu_threads(count: object) -> Iterator[None]:
    """Within the context, operations on the CPU use this many threads.

    A small network gains little from a second thread; and on a machine that is busy, where the threads wait for each
    other at every operation, it loses most of its speed.

    Args:
        count: At least 1; None: as before, which is one for each core unless ``OMP_NUM_THREADS`` says otherwise.

    Raises:
        InputError: ``count`` is out of range.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(require_int("threads", count, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
