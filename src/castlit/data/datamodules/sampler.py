"""Random draws that depend only on (seed, epoch, index), and the sampler that yields (epoch, index)."""

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import DistributedSampler

from castlit.utils.distributed import rank as current_rank
from castlit.utils.distributed import world_size
from castlit.utils.validation import InputError, require_int

_ORDER = 0x0D0E  # makes the draws of the order independent of those of the samples


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one sample in one epoch, independent of all others.

    Args:
        seed: In [0, 2**32), as ``epoch`` and ``index`` are.
        epoch: The epoch's number.
        index: The image's.
    """
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, index)))


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Yields (epoch, index) pairs, shuffled in each epoch and split over the processes.

    Each pair contains the epoch because persistent workers have their own copy of the dataset. The sampler is a
    ``DistributedSampler``, so Lightning does not replace it, and calls ``set_epoch``. A plain loop need not call it:
    each new iteration is the next epoch.

    All processes get equally many samples of one common order; together they see every sample in every epoch. If the
    number of samples is not a multiple of the number of processes, at most ``num_replicas - 1`` samples are seen twice.

    Args:
        dataset: The dataset; only its length is used.
        num_replicas: Number of processes; None means that of torch.distributed, or 1 without it.
        rank: Number of this process; None likewise, or 0.
        shuffle: Whether to shuffle. Otherwise the order is 0, 1, 2, …
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
        require_int("seed", seed, 0, 2**32 - 1)
        super().__init__(dataset, num_replicas, rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.count = len(dataset)
        self.skip = 0
        """Samples that the next iteration skips, to resume an interrupted epoch."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, skip = self.epoch, self.skip
        # the next iteration, unless set_epoch is called
        self.epoch, self.skip = epoch + 1, 0
        return self._pairs(epoch, skip)

    def _pairs(self, epoch: int, skip: int) -> Iterator[tuple[int, int]]:
        order = np.arange(self.count)
        if self.shuffle:
            np.random.default_rng(np.random.SeedSequence((self.seed, epoch, _ORDER, self.count))).shuffle(order)
        # np.resize repeats the order from its start, so that all processes get equally many samples
        for index in np.resize(order, self.total_size)[self.rank :: self.num_replicas][skip:]:
            yield epoch, int(index)
