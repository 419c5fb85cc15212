"""Number of samples of each shard: from ``shards.json`` beside it, from the cache, or counted once."""

import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.folders import MARK
from castlit.data.shards.manifest import MANIFEST, parse_counts, save_counts
from castlit.data.shards.streams import count_samples, read_small_file, split_folder
from castlit.data.shards.unfinished import is_mark
from castlit.data.shards.urls import local_path
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError

CACHE_FORMAT = 2
"""Increase it when the format of the cache changes, or shards are counted otherwise: older ones are ignored."""

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
        InputError: A folder on a server is unfinished.
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
                save_counts(cache / _CACHE, {**cached, **counted}, CACHE_FORMAT)
            except OSError as error:
                logger.warning("%s: the counts cannot be saved (%s)", cache, error.strerror or error)
    return counts


def _count(urls: list[str]) -> list[int]:
    counts = []
    with ThreadPoolExecutor(_THREADS) as pool, ProgressLog("Counting samples", len(urls), what="shards") as pace:
        for count in pool.map(count_samples, urls):
            counts.append(count)
            pace.advance()
    return counts


def _manifest(folder: str) -> dict[str, Any]:
    data = read_small_file(folder, MANIFEST)
    if data is not None:
        return parse_counts(data)
    # A folder that was copied to a server before its shards were complete; local ones were refused already.
    if local_path(folder) is None and is_mark(read_small_file(folder, MARK)):
        raise InputError(f"{folder} is unfinished ({MARK}): complete the shards, and copy them there again")
    return {}


def _load(file: Path) -> dict[str, Any]:
    try:
        return parse_counts(file.read_bytes(), CACHE_FORMAT)
    except OSError:
        return {}


def _key(url: str) -> str:
    path = local_path(url)
    return url if path is None else str(path.resolve())


def _state(url: str) -> State:
    path = local_path(url)
    if path is None:
        return State(None, None)
    state = path.stat()
    return State(state.st_size, state.st_mtime_ns)
