"""Numbers that a process shares with the processes that it starts."""

from multiprocessing.heap import BufferWrapper
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class SharedNumbers:
    """An array of zeros in shared memory; what one process writes, the others read.

    A process shares it when it is forked, started with it among its arguments, or sent it through a queue of
    ``multiprocessing``. A copy by ``copy`` or ``pickle`` has its own memory.

    Args:
        count: Length of the array.
        dtype: Type of its numbers.

    Attributes:
        values: The array, (count,).
    """

    def __init__(self, count: int, dtype: DTypeLike = np.int64) -> None:
        size = count * np.dtype(dtype).itemsize
        self._share(BufferWrapper(max(1, size)), count, dtype)
        self.values[:] = 0  # the memory may have been used before

    def _share(self, memory: BufferWrapper, count: int, dtype: DTypeLike) -> None:
        self._memory = memory
        self.values: NDArray[Any] = np.frombuffer(memory.create_memoryview(), dtype, count)

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy, (self.values.copy(),)


def _copy(values: NDArray[Any]) -> SharedNumbers:
    copy = SharedNumbers(len(values), values.dtype)
    copy.values[:] = values
    return copy


def _attach(memory: BufferWrapper, count: int, dtype: DTypeLike) -> SharedNumbers:
    shared = SharedNumbers.__new__(SharedNumbers)
    shared._share(memory, count, dtype)
    return shared


def _reduce_for_process(shared: SharedNumbers) -> tuple[Any, ...]:
    return _attach, (shared._memory, len(shared.values), shared.values.dtype)


ForkingPickler.register(SharedNumbers, _reduce_for_process)
