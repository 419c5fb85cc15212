"""Counts what passes between the host and a device, on the ``meta`` device in place of a GPU.

``meta`` tensors have no values: whatever reads one back (``item``, ``cpu``, ``nonzero``, a boolean index) raises where
it does so. Copies in the other direction are recorded here.
"""

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _MetaAccelerator(CPUAccelerator):
    def setup_device(self, device):
        pass


class MetaStrategy(SingleDeviceStrategy):
    """Lets Lightning train on ``meta``."""

    def __init__(self):
        super().__init__(torch.device("meta"), _MetaAccelerator())
        self.reductions = 0

    def reduce(self, tensor, *arguments, **options):
        """Something to read: before a fit, Lightning asks how many batches all ranks have."""
        self.reductions += 1
        return torch.ones(tensor.shape)

    def teardown(self):
        """Not to the CPU: there are no values to move."""


class _NumbersToDevice(TorchFunctionMode):
    """Records the calls that make tensors on a device from numbers of the host: they do not reach the dispatcher."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and result.device.type != "cpu":
            self.found.append((function.__name__, tuple(result.shape), result.dtype))
        return result


class CopiesToDevice(TorchDispatchMode):
    """Records each operation in which the host's memory meets a device's, as its name, and the values' shape and type.

    A tensor of the host without dimensions does not count as an argument of an operation on the device: it is passed to
    the kernel as a number.
    """

    def __init__(self):
        super().__init__()
        self.found = []
        self._numbers = _NumbersToDevice(self.found)

    def __enter__(self):
        self._numbers.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._numbers.__exit__(*error)

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        given = [x for x in tree_leaves((arguments, options)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        copies = "_to_copy" in str(operation) or "copy_" in str(operation) or "lift_fresh" in str(operation)
        host = [x for x in given if x.device.type == "cpu" and (x.dim() or copies)]
        device = any(x.device.type != "cpu" for x in [*given, *made])
        if host and device:
            self.found.append((str(operation), tuple(host[-1].shape), host[-1].dtype))
        return result
