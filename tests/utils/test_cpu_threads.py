"""The threads of PyTorch's operations, for the time of a run."""

import pytest
import torch

from castlit.utils.cpu_threads import cpu_threads
from castlit.utils.validation import InputError


def test_threads():
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with cpu_threads(None):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), cpu_threads(before + 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("count", [0, -1, 1.5, "two", True])
def test_refused(count):
    with pytest.raises(InputError, match=r"^threads must be "), cpu_threads(count):
        pass
