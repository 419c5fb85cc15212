"""Number of samples of each shard: from ``shards.json`` beside it, from the cache, or counted once."""

import functools
import json
import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.data.shards.streams import count_samples, read_small_file, split_folder
from castlit.data.shards.urls import local_path
from castlit.utils.atomic_write import write_atomic
from castlit.utils.progress import progress

MANIFEST = "shards.json"
FORMAT = 1
"""Increase it when the format of ``shards.json`` changes: older ones are ignored."""

CACHE_FORMAT = 2
"""Likewise for the cache, and when shards are counted otherwise."""

_CACHE = "shard_counts.json"
_THREADS = 8

logger = logging.getLogger(__name__)


class State(NamedTuple):
    """Size and time of a shard, which show whether it has changed; None if it is not a local file."""

    bytes: int | None
    modified: int | None


def shard_counts(urls: Sequence[str], cache: Path | None) -> NDArray[np.int64]:
    """The number of samples in each shard, (len(urls),) int64.

    Args:
        urls: Shards, from :func:`castlit.data.shards.urls.find_shards`.
        cache: Folder in which counts are saved, and reused while a shard's size and time do not change. None saves
            nothing.

    Raises:
        ShardError: A shard must be counted, but cannot be opened or is damaged.
    """
    manifest = functools.cache(_manifest)
    cached = {} if cache is None else _load(cache / _CACHE)
    counts = np.full(len(urls), -1, np.int64)
    states = [_state(url) for url in urls]
    for i, (url, state) in enumerate(zip(urls, states, strict=True)):
        location = split_folder(url)
        entry = None if location is None else manifest(location[0]).get(location[1])
        if entry is not None and state.bytes in (None, entry["bytes"]):
            counts[i] = entry["samples"]
        elif cached.get(_key(url), {}).get("state") == list(state):
            counts[i] = cached[_key(url)]["samples"]
    unknown = np.flatnonzero(counts < 0).tolist()
    if unknown:
        counts[unknown] = _count([urls[i] for i in unknown])
        if cache is not None:
            counted = {_key(urls[i]): {"state": list(states[i]), "samples": int(counts[i])} for i in unknown}
            try:
                _save(cache / _CACHE, {**cached, **counted}, CACHE_FORMAT)
            except OSError as error:
                logger.warning("%s: the counts cannot be saved (%s)", cache, error.strerror or error)
    return counts


def write_manifest(folder: Path, counts: dict[str, int]) -> None:
    """Write ``shards.json`` for the shards of a folder: names and numbers of samples."""
    shards = {name: {"samples": n, "bytes": (folder / name).stat().st_size} for name, n in counts.items()}
    _save(folder / MANIFEST, shards)


def _count(urls: list[str]) -> list[int]:
    counts = []
    with ThreadPoolExecutor(_THREADS) as pool, progress("Counting samples in shards") as bar:
        task = bar.add_task("", total=len(urls), rate="")
        for count in pool.map(count_samples, urls):
            counts.append(count)
            bar.update(task, advance=1)
    return counts


def _manifest(folder: str) -> dict[str, Any]:
    data = read_small_file(folder, MANIFEST)
    return {} if data is None else _parse(data, FORMAT)


def _load(file: Path) -> dict[str, Any]:
    try:
        return _parse(file.read_bytes(), CACHE_FORMAT)
    except OSError:
        return {}


def _parse(data: bytes, file_format: int) -> dict[str, Any]:
    """The shards in a file written by :func:`_save`; empty for any other content."""
    try:
        content = json.loads(data)
        shards = content["shards"] if content["format"] == file_format else {}
        return {name: entry for name, entry in shards.items() if isinstance(entry["samples"], int)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _save(file: Path, shards: dict[str, Any], file_format: int = FORMAT) -> None:
    """Write atomically: a reader finds the new file or the old one."""
    content = json.dumps({"format": file_format, "shards": shards}, indent=1) + "\n"
    write_atomic(file, content.encode(), writer=uuid.uuid4().hex)


def _key(url: str) -> str:
    path = local_path(url)
    return url if path is None else str(path.resolve())


def _state(url: str) -> State:
    path = local_path(url)
    if path is None:
        return State(None, None)
    state = path.stat()
    return State(state.st_size, state.st_mtime_ns)
