"""The process pool. The work is ``eval`` of strings: the processes cannot import the tests."""

import os
import time

import pytest

from castlit.utils.process_pool import AHEAD, in_processes
from castlit.utils.validation import InputError

DIE = "__import__('os')._exit(3)"


def died(item):
    return f"died of {item}"


def run(items, processes=2):
    return list(in_processes(eval, items, processes, died))


@pytest.mark.parametrize("processes", [0, 2])
def test_results_in_order(processes):
    items = [f"__import__('time').sleep({(7 - i) / 200}) or {i} ** 2" for i in range(8)]
    assert run(items, processes) == [i**2 for i in range(8)]
    assert run([], processes) == []


def test_bounded_items_in_flight():
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield str(i)

    results = in_processes(eval, items(), 2, died)
    for expected in range(20):
        assert next(results) == expected
        assert len(taken) <= expected + 1 + 2 * AHEAD
    results.close()


def test_one_thread_and_no_ctrl_c():
    threads = "max(pool['num_threads'] for pool in __import__('threadpoolctl').threadpool_info())"
    ignored = "__import__('signal').getsignal(2) == __import__('signal').SIG_IGN"
    assert run([threads, "__import__('cv2').getNumThreads()", ignored], 1) == [1, 1, True]


def test_item_that_kills_its_process():
    items = [str(i) for i in range(30)]
    items[4] = items[20] = DIE
    expected = [died(DIE) if item == DIE else int(item) for item in items]
    assert run(items) == expected


def test_every_process_dies():
    with pytest.raises(InputError, match=r"every worker process died .* workers=0"):
        run([DIE] * 5)


def test_exceptions_are_raised():
    with pytest.raises(ZeroDivisionError):
        run(["1", "1 / 0", "2"])


def test_processes_end_when_iteration_stops():
    items = ["__import__('os').getpid()"] * 4 + ["__import__('time').sleep(60)"] * 20
    results = in_processes(eval, items, 2, died)
    pids = {next(results) for _ in range(4)}
    start = time.monotonic()
    results.close()
    while any(map(alive, pids)) and time.monotonic() - start < 20:
        time.sleep(0.05)
    assert not any(map(alive, pids))
    assert time.monotonic() - start < 20


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
