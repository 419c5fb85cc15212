"""Who reads what: an epoch's samples as one line, cut into ranks, lanes and batches."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError, require_int

LANES = 16
"""Streams that a process reads in turn. A loader's worker serves whole lanes, so the workers must divide it."""

_LINE, _BUFFER = 0x5A4D, 0xB0FF  # set these draws apart from those of the samples


class Segment(NamedTuple):
    """Samples ``start`` to ``stop`` of a shard."""

    shard: int
    start: int
    stop: int


class Plan:
    """Cuts an epoch into batches, the same ones whatever the number of workers.

    In each epoch the shards lie in a new order, one after the other, in a ring that starts at a random sample. Every
    rank takes an equal stretch of it, and cuts that into lanes, which are stretches again. Batch n comes from lane
    n % lanes.

    Args:
        counts: Samples of each shard, (shards,) int64.
        batch_size: Samples per batch and rank.
        seed: Seed of the order, at least 0; equal on all ranks.
        world: Number of ranks.
        rank: This one's number.
        drop_last: Leave out what does not fill a batch on every rank; unless there is not one such batch. Otherwise,
            the last batch is smaller, and at most ``world - 1`` samples are seen twice, so that ranks have equal
            shares.

    Raises:
        InputError: There are no samples, or a number is out of range.
    """

    def __init__(
        self,
        counts: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int = 0,
        world: int = 1,
        rank: int = 0,
        drop_last: bool = True,
    ) -> None:
        self.total = int(counts.sum())
        if self.total == 0:
            raise InputError(f"the {len(counts)} shards hold no samples")
        self.counts = counts
        self.firsts = np.concatenate([[0], np.cumsum(counts)])
        """The number that the first sample of each shard has among all; and how many there are."""
        self.batch_size = require_int("batch_size", batch_size, 1)
        self.seed, self.world, self.rank = seed, world, rank
        full = self.total // (world * batch_size)
        self.share = full * batch_size if drop_last and full else -(-self.total // world)
        """Samples of this rank in an epoch."""
        self.batches = -(-self.share // batch_size)
        self.lanes = min(LANES, self.batches)

    def batch_length(self, number: int) -> int:
        """Samples in batch ``number`` of an epoch."""
        return (
            min(self.batch_size, self.share - number * self.batch_size)
            if number == self.batches - 1
            else (self.batch_size)
        )

    def segments(self, epoch: int, lane: int) -> list[Segment]:
        """What a lane reads in an epoch, in order."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, _LINE, self.total)))
        order = rng.permutation(len(self.counts))
        ends = np.cumsum(self.counts[order])
        start, stop = self._stretch(lane)
        at = int(rng.integers(self.total)) + self.rank * self.share + start
        left = stop - start
        segments = []
        while left:
            place = at % self.total
            i = int(np.searchsorted(ends, place, side="right"))
            shard = int(order[i])
            inside = place - int(ends[i] - self.counts[shard])
            taken = min(left, int(self.counts[shard]) - inside)
            segments.append(Segment(shard, inside, inside + taken))
            at, left = at + taken, left - taken
        return segments

    def buffer_seed(self, epoch: int, lane: int) -> int:
        """Seed of the order in which a lane's samples leave its buffer."""
        words = np.random.SeedSequence((self.seed, epoch, _BUFFER, self.rank, lane)).generate_state(2, np.uint64)
        return int.from_bytes(words.tobytes(), "little")

    def _stretch(self, lane: int) -> tuple[int, int]:
        """The part of this rank's share that a lane reads: whole batches, but for the rank's last one."""
        each, more = divmod(self.batches, self.lanes)
        missing = self.batches * self.batch_size - self.share
        last = (self.batches - 1) % self.lanes  # the lane of the last batch

        def end(lanes: int) -> int:
            return (lanes * each + min(lanes, more)) * self.batch_size - (missing if lanes > last else 0)

        return end(lane), end(lane + 1)
