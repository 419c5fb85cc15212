"""Training batches out of streams, made to order, so that the loader can be any castlit uses."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

import webdataset
from torch.utils.data import Dataset

from castlit.data.datamodules.datasets import view_sample
from castlit.data.datamodules.sampler import EpochSampler
from castlit.data.io.errors import SampleError
from castlit.data.io.source import Sample
from castlit.data.shards.plan import Plan
from castlit.data.shards.records import Record, RecordReader, make_record
from castlit.data.shards.streams import read_samples
from castlit.data.transforms.views import TwoViews
from castlit.utils.validation import require_int


class ShardDataset(Dataset[list[Sample | None]]):
    """Makes the samples of batch ``number`` of an epoch, to the order ``(epoch, number)``.

    A lane's stream stays open between its batches. Orders that come in turn, as a loader's worker gets them, read each
    sample once; others are answered too, by reading from the lane's beginning.

    Args:
        urls: Shards, in the order of the plan's counts.
        plan: Which samples make up a batch.
        reader: Makes images from them.
        views: Makes the two views.
        masks: See :func:`castlit.data.shards.records.make_record`.
        shuffle: Samples of a lane that wait, undecoded, for their turn at random; 0 keeps the shards' order.
    """

    def __init__(
        self,
        urls: Sequence[str],
        plan: Plan,
        reader: RecordReader,
        views: TwoViews,
        masks: str | None,
        shuffle: int,
    ) -> None:
        self.urls, self.plan, self.reader, self.views, self.masks = list(urls), plan, reader, views, masks
        self.shuffle = require_int("shuffle", shuffle, 0)
        self._lanes: dict[int, _Lane] = {}
        self._owner: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.plan.batches

    def __getitem__(self, order: tuple[int, int]) -> list[Sample | None]:
        """The samples of a batch; None for one that cannot be had, which ``collate`` leaves out."""
        epoch, number = order
        return [self._sample(record, epoch) for record in self._records(epoch, number)]

    def __getstate__(self) -> dict[str, Any]:
        # Open files stay where they are.
        return {**self.__dict__, "_lanes": {}, "_owner": None}

    def close(self) -> None:
        """Close what is open. Orders may still come."""
        for lane in self._lanes.values():
            lane.records.close()
        self._lanes.clear()

    def _sample(self, record: Record, epoch: int) -> Sample | None:
        try:
            return view_sample(self.views, self.reader.read(record), self.plan.seed, epoch, record.number)
        except SampleError as error:
            self.reader.give_up(record, error)
            return None

    def _records(self, epoch: int, number: int) -> list[Record]:
        # A fork inherits open files, but not the right to read on: the position is shared.
        if self._owner != (os.getpid(), epoch):
            self.close()
            self._owner = os.getpid(), epoch
        turn, name = divmod(number, self.plan.lanes)
        lane = self._lanes.pop(name, None)
        if lane is None or lane.turn > turn:
            lane = _Lane(self._stream(epoch, name))
        lane.skip((turn - lane.turn) * self.plan.batch_size)
        records = list(islice(lane.records, self.plan.batch_length(number)))
        if number + self.plan.lanes < self.plan.batches:
            lane.turn = turn + 1
            self._lanes[name] = lane
        else:
            lane.records.close()
        return records

    def _stream(self, epoch: int, lane: int) -> Iterator[Record]:
        """A lane's samples, in the order of this epoch."""
        read = self._read(epoch, lane)
        if self.shuffle < 2:
            yield from read
        else:
            yield from webdataset.shuffle(self.shuffle, rng=Random(self.plan.buffer_seed(epoch, lane)))(read)

    def _read(self, epoch: int, lane: int) -> Iterator[Record]:
        for shard, start, stop in self.plan.segments(epoch, lane):
            first = int(self.plan.firsts[shard])
            for number, sample in enumerate(read_samples(self.urls[shard], start, stop), start):
                yield make_record(sample, first + number, self.masks)


class OrderSampler(EpochSampler):
    """Yields the orders of an epoch in turn, on each rank alone: the plan does the splitting and the shuffling.

    It is a ``DistributedSampler``, so Lightning leaves it in place.

    Args:
        plan: Says how many there are.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(range(plan.batches), num_replicas=1, rank=0, shuffle=False, seed=plan.seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # Not before the first order is asked for: a DataLoader without a batch sampler makes two iterators, uses one,
        # and would pass over an epoch.
        yield from super().__iter__()


class _Lane:
    """An open stream, and which of its batches it stands before."""

    def __init__(self, records: Any) -> None:  # noqa: ANN401 - a generator
        self.records, self.turn = records, 0

    def skip(self, count: int) -> None:
        for _ in islice(self.records, count):
            pass
