"""Randomness that does not depend on who does the work: (seed, epoch, index) decides every draw."""

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import DistributedSampler

from castlit.utils.distributed import rank as current_rank
from castlit.utils.distributed import world_size
from castlit.utils.validation import InputError, require_int

_ORDER = 0x0D0E  # sets the draws of the order apart from those of the samples


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random source of one sample in one epoch; different for any two (seed, epoch, index), all at least 0."""
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, index)))


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Yields (epoch, index) pairs in an order that is shuffled anew each epoch and split over the processes.

    Carrying the epoch with the index is how persistent workers, which hold their own copy of the dataset, learn it.
    It is a ``DistributedSampler``, so Lightning leaves it in place and calls ``set_epoch``; a plain loop need not call
    it: each new iteration goes on to the next epoch by itself.

    Processes get equal shares of one common order and together see every sample in every epoch. Where the
    number of samples is not a multiple of the number of processes, at most ``num_replicas - 1`` samples are seen twice;
    none is left out.

    Args:
        dataset: What is sampled from; only its length is used.
        num_replicas: Number of processes; None asks torch.distributed, and is 1 without it.
        rank: This process's number; None asks likewise.
        shuffle: Whether to shuffle. Without, the order is 0, 1, 2, …
        seed: Seed of the order, at least 0; equal on all processes.

    Raises:
        InputError: The dataset is empty, or a number is out of range.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        num_replicas = require_int("num_replicas", world_size() if num_replicas is None else num_replicas, 1)
        rank = require_int("rank", current_rank() if rank is None else rank, 0, num_replicas - 1)
        if len(dataset) == 0:
            raise InputError("there is nothing to sample from: the dataset is empty")
        require_int("seed", seed, 0)
        super().__init__(dataset, num_replicas, rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.count = len(dataset)
        self.skip = 0
        """Samples that the next iteration passes over, as it goes on with an epoch that was broken off."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, skip = self.epoch, self.skip
        # what the next iteration is, unless set_epoch says otherwise
        self.epoch, self.skip = epoch + 1, 0
        return self._pairs(epoch, skip)

    def _pairs(self, epoch: int, skip: int) -> Iterator[tuple[int, int]]:
        order = np.arange(self.count)
        if self.shuffle:
            np.random.default_rng(np.random.SeedSequence((self.seed, epoch, _ORDER, self.count))).shuffle(order)
        # resize repeats the order from its start: that is the padding to equal shares
        for index in np.resize(order, self.total_size)[self.rank :: self.num_replicas][skip:]:
            yield epoch, int(index)
