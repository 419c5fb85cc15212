"""``unfinished.json``: marks a folder whose shards are being written, and says how far they are."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from castlit.data.index.file_source import FileSource
from castlit.data.io.folders import MARK
from castlit.data.io.images import file_state
from castlit.utils.atomic_write import ALONE
from castlit.utils.json_files import load_json, write_json


class Progress(NamedTuple):
    """How far shards are written."""

    key: str
    """Of files, order and settings: equal for the same command on the same files."""
    shards: dict[str, dict[str, int]]
    """``samples``, ``unmasked`` and ``bytes`` of each complete shard, in their order."""
    position: int
    """Number of images, in the order of writing, that these shards took."""

    def save(self, folder: Path) -> None:
        """Write the mark.

        Raises:
            OSError: It cannot be written.
        """
        write_json(folder / MARK, self._asdict(), writer=ALONE)


def read_progress(folder: Path) -> Progress | None:
    """Read the mark of a folder; None if it has none, or only a damaged one."""
    try:
        return _parse((folder / MARK).read_bytes())
    except OSError:
        return None


def is_mark(data: bytes | None) -> bool:
    """Whether these bytes are a mark. A server may answer with a page where it has no file."""
    return data is not None and _parse(data) is not None


def _parse(data: bytes) -> Progress | None:
    try:
        content = load_json(data)
        shards = {
            str(name): {key: int(shard[key]) for key in ("samples", "unmasked", "bytes")}
            for name, shard in content["shards"].items()
        }
        return Progress(str(content["key"]), shards, int(content["position"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def progress_key(source: FileSource, order: Sequence[int], samples_per_shard: int) -> str:
    """The key of a command: equal if it writes the same shards."""
    index = source.index
    digest = hashlib.blake2b(digest_size=16)
    settings: list[Any] = [samples_per_shard, source.bad.on_bad, source.masks is None]
    digest.update(json.dumps(settings).encode())
    # The index has the states of masks only.
    images = [file_state(f"{source.images}/{source.entry(i).image}") for i in range(len(source))]
    arrays = (index.images.data, index.images.offsets, index.masks.data, index.sizes, index.states, index.problems)
    for array in (*arrays, np.asarray(images, np.int64), np.asarray(order, np.int64)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
