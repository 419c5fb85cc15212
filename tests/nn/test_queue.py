"""KeyQueue against a plain Python ring."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.nn import KeyQueue
from castlit.utils.validation import InputError


class Ring:
    """A ring buffer, one key at a time."""

    def __init__(self, slots):
        self.slots, self.next = list(slots), 0

    def enqueue(self, keys):
        for key in keys:
            self.slots[self.next] = key
            self.next = (self.next + 1) % len(self.slots)


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 20), batches=st.lists(st.integers(0, 50), max_size=8))
def test_equals_python_ring(size, batches):
    queue = KeyQueue(size, 2)
    ring = Ring(queue.keys.tolist())
    count = 0
    for batch in batches:
        keys = torch.arange(count, count + 2 * batch, dtype=torch.float32).view(batch, 2)
        count += 2 * batch
        queue.enqueue(keys)
        ring.enqueue(keys.tolist())
        assert queue.keys.tolist() == ring.slots
        assert int(queue.pointer) == ring.next


@pytest.mark.parametrize(("size", "batch"), [(15, 17), (17, 15), (16, 16), (5, 11), (1, 3), (7, 14)])
def test_sizes_that_do_not_divide(size, batch):
    queue = KeyQueue(size, 1)
    ring = Ring(queue.keys.tolist())
    for step in range(9):
        keys = torch.full((batch, 1), 100.0 * step) + torch.arange(batch)[:, None]
        queue.enqueue(keys)
        ring.enqueue(keys.tolist())
    assert queue.keys.tolist() == ring.slots
    assert int(queue.pointer) == ring.next == 9 * batch % size


def test_initial_keys_are_random_unit_vectors():
    queue = KeyQueue(500, 8)
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(500))
    assert queue.keys.mean(0).abs().max() < 0.15


def test_snapshot_is_a_copy():
    queue = KeyQueue(4, 2)
    before = queue.keys.clone()
    snapshot = queue.snapshot()
    queue.enqueue(torch.ones(3, 2))
    assert torch.equal(snapshot, before)
    assert not torch.equal(queue.keys, before)


def test_state_dict_round_trip():
    queue, again = KeyQueue(7, 3), KeyQueue(7, 3)
    queue.enqueue(torch.randn(5, 3))
    assert set(queue.state_dict()) == {"keys", "pointer"}
    again.load_state_dict(queue.state_dict())
    assert int(again.pointer) == 5
    more = torch.randn(4, 3)
    queue.enqueue(more)
    again.enqueue(more)
    assert torch.equal(queue.keys, again.keys)
    assert int(queue.pointer) == int(again.pointer) == 2


def test_keys_with_graph_or_half_precision():
    queue = KeyQueue(4, 2)
    queue.enqueue(torch.ones(2, 2, requires_grad=True))
    queue.enqueue(torch.full((1, 2), 0.5, dtype=torch.bfloat16))
    assert not queue.keys.requires_grad
    assert queue.keys.dtype == torch.float32
    assert queue.keys[:3].tolist() == [[1, 1], [1, 1], [0.5, 0.5]]


@pytest.mark.parametrize(("size", "dim", "what"), [(0, 2, "queue_size"), (2, 0, "dim"), (2.5, 2, "queue_size")])
def test_invalid_sizes(size, dim, what):
    with pytest.raises(InputError, match=what):
        KeyQueue(size, dim)
