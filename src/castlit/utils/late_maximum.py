"""The largest of a small number over ranks, known a call later: no rank waits for another one, or for its device."""

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from castlit.utils.distributed import world_size


class LateMaximum:
    """Exchanges a number at each step, between the hosts alone, while the step runs.

    Reading a number back from a GPU would make the host wait for the work that is queued there. So the ranks use gloo,
    whatever the devices' backend is, and read the result at the next step, when it has long arrived. All ranks must
    call all methods together. With one rank the result is as late.

    Example:
        >>> late = LateMaximum()
        >>> late.open()
        >>> late.take(), late.send(2), late.take(), late.take()
        (0, None, 2, 0)
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._sent: tuple[Tensor, dist.Work | None] | None = None

    def open(self) -> None:
        """Connect the ranks."""
        self._sent = None
        if world_size() > 1 and self._group is None:
            self._group = cast(dist.ProcessGroup, dist.new_group(backend="gloo"))

    def send(self, number: int) -> None:
        """Start the exchange of this rank's number, at least 0; take the last one's result before."""
        value = torch.tensor(number)
        work = None
        if self._group is not None:
            work = dist.all_reduce(value, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._sent = value, work

    def take(self) -> int:
        """Return the largest number of the last exchange; 0 if none was started since the last call."""
        if self._sent is None:
            return 0
        (value, work), self._sent = self._sent, None
        if work is not None:
            work.wait()
        return int(value)

    def close(self) -> None:
        """Disconnect, after the last result was taken."""
        if self._group is not None and self._sent is None:
            dist.destroy_process_group(self._group)
        self._group = self._sent = None
