"""Training batches from shards, as a dataset indexed by (epoch, batch number), which any loader can use."""

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
from castlit.data.transforms.both_views import BothViews
from castlit.utils.validation import require_int


class ShardDataset(Dataset[list[Sample | None]]):
    """The samples of a batch, indexed by ``(epoch, number)``, or by the number alone for epoch 0.

    The stream of a lane stays open between its batches. If batches are requested in order, as by a loader's worker,
    each sample is read once. Any other order works too, but reads the lane from its start.

    Args:
        urls: Shards, in the order of the plan's counts.
        plan: Assigns samples to batches.
        reader: Makes images from them.
        views: Makes the two views.
        masks: See :func:`castlit.data.shards.records.make_record`.
        shuffle: Size of a lane's shuffle buffer, in encoded samples; 0 keeps the order of the shards.
    """

    def __init__(
        self,
        urls: Sequence[str],
        plan: Plan,
        reader: RecordReader,
        views: BothViews,
        masks: str | None,
        shuffle: int,
    ) -> None:
        self.urls, self.plan, self.reader, self.views, self.masks = list(urls), plan, reader, views, masks
        self.shuffle = require_int("shuffle", shuffle, 0)
        self._lanes: dict[int, _Lane] = {}
        self._owner: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.plan.batches

    def __getitem__(self, key: tuple[int, int] | int) -> list[Sample | None]:
        """The samples of a batch; None for one that cannot be read, which ``collate`` leaves out."""
        epoch, number = key if isinstance(key, tuple) else (0, key)
        return [self._sample(record, epoch) for record in self._records(epoch, number)]

    def __getstate__(self) -> dict[str, Any]:
        # Open files are not pickled.
        return {**self.__dict__, "_lanes": {}, "_owner": None}

    def close(self) -> None:
        """Close all open streams. The dataset can still be used."""
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
        # A forked process must not read from inherited files: their position is shared with the parent.
        if self._owner != (os.getpid(), epoch):
            self.close()
            self._owner = os.getpid(), epoch
        step, lane_number = divmod(number, self.plan.lanes)
        lane = self._lanes.pop(lane_number, None)
        if lane is None or lane.step > step:
            lane = _Lane(self._stream(epoch, lane_number))
        lane.skip((step - lane.step) * self.plan.batch_size)
        records = list(islice(lane.records, self.plan.batch_length(number)))
        if number + self.plan.lanes < self.plan.batches:
            lane.step = step + 1
            self._lanes[lane_number] = lane
        else:
            lane.records.close()
        return records

    def _stream(self, epoch: int, lane: int) -> Iterator[Record]:
        """A lane's samples in an epoch, shuffled."""
        read = self._read(epoch, lane)
        if self.shuffle < 2:
            yield from read
        else:
            yield from webdataset.shuffle(self.shuffle, rng=Random(self.plan.buffer_seed(epoch, lane)))(read)

    def _read(self, epoch: int, lane: int) -> Iterator[Record]:
        for shard, start, stop in self.plan.segments(epoch, lane):
            first = int(self.plan.offsets[shard])
            for number, sample in enumerate(read_samples(self.urls[shard], start, stop), start):
                yield make_record(sample, first + number, self.masks)


class BatchNumberSampler(EpochSampler):
    """Yields (epoch, batch number), in order, on each rank by itself: the plan splits and shuffles the samples.

    It is a ``DistributedSampler``, so Lightning does not replace it.

    Args:
        plan: Has the number of batches.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(range(plan.batches), num_replicas=1, rank=0, shuffle=False, seed=plan.seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # A generator, so that the epoch advances with the first item only: a DataLoader without a batch sampler creates
        # two iterators and uses one.
        yield from super().__iter__()


class _Lane:
    """An open stream, and the number of its next batch."""

    def __init__(self, records: Any) -> None:  # noqa: ANN401 - a generator
        self.records, self.step = records, 0

    def skip(self, count: int) -> None:
        for _ in islice(self.records, count):
            pass
