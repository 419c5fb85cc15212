"""Assigns the samples of an epoch to ranks, lanes and batches."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError, require_int

LANES = 16
"""Lanes: streams that a process reads in turn. One worker reads all of a lane, so the workers must divide it."""

_LINE, _BUFFER = 0x5A4D, 0xB0FF  # make these draws independent of those of the samples


class Segment(NamedTuple):
    """Samples ``start`` to ``stop`` of a shard."""

    shard: int
    start: int
    stop: int


class Plan:
    """Splits an epoch into batches, which do not depend on the number of workers.

    In each epoch the shards are concatenated in a new random order, as a ring that starts at a random sample. Each rank
    gets an equally long range of it, and splits that into consecutive ranges: its lanes. Batch n comes from lane
    n % lanes.

    Args:
        counts: Samples of each shard, (shards,) int64.
        batch_size: Samples per batch and rank.
        seed: Seed of the order, at least 0; equal on all ranks.
        world: Number of ranks.
        rank: This one's number.
        drop_last: Leave out samples that do not fill a batch on every rank, unless there is no full batch. Otherwise
            the last batch is smaller, and at most ``world - 1`` samples are seen twice, so that all ranks have equally
            many.

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
            raise InputError(f"the {len(counts)} shards have no samples")
        self.counts = counts
        self.offsets = np.concatenate([[0], np.cumsum(counts)])
        """Number of the first sample of each shard among all samples; and the number of all."""
        self.batch_size = require_int("batch_size", batch_size, 1)
        self.seed, self.world, self.rank = seed, world, rank
        full = self.total // (world * batch_size)
        self.rank_samples = full * batch_size if drop_last and full else -(-self.total // world)
        """Samples of this rank in an epoch."""
        self.batches = -(-self.rank_samples // batch_size)
        self.lanes = min(LANES, self.batches)

    def batch_length(self, number: int) -> int:
        """Samples in batch ``number`` of an epoch."""
        return min(self.batch_size, self.rank_samples - number * self.batch_size)

    def segments(self, epoch: int, lane: int) -> list[Segment]:
        """The parts of shards that a lane reads in an epoch, in order."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, _LINE, self.total)))
        order = rng.permutation(len(self.counts))
        ends = np.cumsum(self.counts[order])
        start, stop = self._range(lane)
        at = int(rng.integers(self.total)) + self.rank * self.rank_samples + start
        left = stop - start
        segments = []
        while left:
            position = at % self.total
            i = int(np.searchsorted(ends, position, side="right"))
            shard = int(order[i])
            first = position - int(ends[i] - self.counts[shard])
            taken = min(left, int(self.counts[shard]) - first)
            segments.append(Segment(shard, first, first + taken))
            at, left = at + taken, left - taken
        return segments

    def buffer_seed(self, epoch: int, lane: int) -> int:
        """Seed of a lane's shuffle buffer."""
        words = np.random.SeedSequence((self.seed, epoch, _BUFFER, self.rank, lane)).generate_state(2, np.uint64)
        return int.from_bytes(words.tobytes(), "little")

    def _range(self, lane: int) -> tuple[int, int]:
        """The range of this rank's samples that a lane reads: full batches, except for the rank's last one."""
        each, more = divmod(self.batches, self.lanes)
        missing = self.batches * self.batch_size - self.rank_samples
        last = (self.batches - 1) % self.lanes  # the lane of the last batch

        def end(lanes: int) -> int:
            return (lanes * each + min(lanes, more)) * self.batch_size - (missing if lanes > last else 0)

        return end(lane), end(lane + 1)
