"""SharedNumbers: seen by the processes that get it, and copied by copy and pickle."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from castlit.utils.shared_numbers import SharedNumbers

WRITE = "shared.values.__setitem__({}, 7)"  # the processes cannot import the tests


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_that_gets_it_as_an_argument(method):
    shared = SharedNumbers(3)
    process = multiprocessing.get_context(method).Process(target=eval, args=(WRITE.format(1), {"shared": shared}))
    process.start()
    process.join()
    assert shared.values.tolist() == [0, 7, 0]


def test_process_that_gets_it_by_a_queue():
    shared = SharedNumbers(3, np.bool_)
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        for i in (0, 2):
            pool.submit(eval, WRITE.format(i), {"shared": shared}).result()
    assert shared.values.tolist() == [True, False, True]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda shared: pickle.loads(pickle.dumps(shared))])
def test_copy_has_its_own_memory(copied):
    shared = SharedNumbers(2)
    shared.values[:] = [1, 2]
    twin = copied(shared)
    twin.values[0] = 5
    assert (shared.values.tolist(), twin.values.tolist()) == ([1, 2], [5, 2])


def test_memory_used_before_is_zeroed():
    for _ in range(3):
        shared = SharedNumbers(1000)
        assert not shared.values.any()
        shared.values[:] = 9
        del shared
    assert len(SharedNumbers(0).values) == 0
