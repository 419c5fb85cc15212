"""Validation images from shards: read once, kept in memory, encoded."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.source import Item
from castlit.data.shards.records import Record, RecordReader, make_record
from castlit.data.shards.streams import read_samples

_MIN_SHARDS = 16


class MemorySource:
    """A :class:`castlit.data.io.source.Source` of samples of shards, in memory.

    Args:
        records: The samples; their numbers are their positions in this sequence.
        reader: Makes images from them.
    """

    def __init__(self, records: Sequence[Record], reader: RecordReader) -> None:
        self.records, self.reader = records, reader

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> Item:
        """Image and mask ``index``.

        Raises:
            SampleError: There is no image; or the mask is bad, and ``on_bad`` is not ``"unconstrained"``.
        """
        return self.reader.read(self.records[index])

    def give_up(self, index: int, error: SampleError) -> None:
        """Log that image ``index`` is left out, once.

        Raises:
            SampleError: ``on_bad`` is ``"error"``.
        """
        self.reader.give_up(self.records[index], error)


def first_records(urls: Sequence[str], count: int, masks: str | None) -> list[Record]:
    """The first ``count`` samples of some shards, or all if there are fewer.

    Raises:
        ShardError: A shard cannot be read.
    """
    records: list[Record] = []
    for url in urls:
        if len(records) == count:
            break
        records += _take(url, count - len(records), masks, len(records))
    return records


def spread_records(urls: Sequence[str], counts: NDArray[np.int64], count: int, masks: str | None) -> list[Record]:
    """``count`` samples, or all if there are fewer: the first ones of evenly spaced shards.

    Args:
        urls: Shards.
        counts: Number of samples of each.
        count: Number of samples to take.
        masks: See :func:`castlit.data.shards.records.make_record`.

    Raises:
        ShardError: A shard cannot be read.
    """
    records: list[Record] = []
    for shard, taken in enumerate(samples_per_shard(counts, count).tolist()):
        if taken:
            records += _take(urls[shard], taken, masks, len(records))
    return records


def samples_per_shard(counts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Number of samples to take from each shard: equally many, from as few shards as suffice, but at least about 16."""
    shards = min(_MIN_SHARDS, len(counts))
    chosen = _evenly(len(counts), shards)
    while counts[chosen].sum() < count and shards < len(counts):
        shards = min(2 * shards, len(counts))
        chosen = _evenly(len(counts), shards)
    taken = np.zeros_like(counts)
    left = count
    # The smallest first, so that the others can make up for them.
    for done, shard in enumerate(chosen[np.argsort(counts[chosen], kind="stable")].tolist()):
        taken[shard] = min(int(counts[shard]), -(-left // (len(chosen) - done)))
        left -= int(taken[shard])
    return taken


def _evenly(total: int, count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, total - 1, count).round().astype(np.int64))


def _take(url: str, count: int, masks: str | None, index: int) -> Iterator[Record]:
    # Abandoning the generator closes the shard.
    for sample in read_samples(url):
        yield make_record(sample, index, masks)
        index, count = index + 1, count - 1
        if count == 0:
            return
