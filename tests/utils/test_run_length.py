"""The number of steps of a fit: in constant time, and that of a plain count."""

import math
import time
from types import SimpleNamespace

import pytest
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from castlit.utils.run_length import epochs_of_steps, steps_of_epochs, total_steps


def trainer(batches, accumulated=1, scheduling=None, **given):
    callbacks = [] if scheduling is None else [GradientAccumulationScheduler(scheduling)]
    found = SimpleNamespace(
        num_training_batches=batches,
        accumulate_grad_batches=accumulated,
        callbacks=callbacks,
        limit_train_batches=1.0,
        max_steps=-1,
        max_epochs=None,
    )
    return SimpleNamespace(**{**vars(found), **given})


@pytest.mark.parametrize("scheduling", [None, {0: 1, 3: 4}, {2: 3, 5: 7}])
@pytest.mark.parametrize("batches", [1, 7, 30])
def test_equals_a_plain_count(batches, scheduling):
    given = trainer(batches, scheduling=scheduling)
    steps = 0
    for epoch in range(12):
        assert steps_of_epochs(given, epoch) == steps
        factor = (
            1
            if scheduling is None
            else max((start, f) for start, f in {0: 1, **scheduling}.items() if start <= epoch)[1]
        )
        more = math.ceil(batches / factor)
        assert steps_of_epochs(given, epoch + 0.5) == steps + more / 2
        for step in range(steps + 1, steps + more + 1):
            assert epochs_of_steps(given, step) == epoch + 1
        steps += more


def test_many_epochs_take_no_time():
    given = trainer(10, max_epochs=10**9)
    start = time.perf_counter()
    assert total_steps(given) == 10**10
    assert epochs_of_steps(given, 10**10) == 10**9
    assert time.perf_counter() - start < 0.1
