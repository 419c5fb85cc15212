"""Write images and masks of folders as shards."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import webdataset

from castlit.data.index.file_source import FileSource
from castlit.data.io.errors import SampleError
from castlit.data.io.images import read_bytes
from castlit.data.shards.counts import MANIFEST, write_manifest
from castlit.utils.progress import progress
from castlit.utils.validation import InputError

_THREADS = 8

T = TypeVar("T")
Members = dict[str, bytes]


class Written(NamedTuple):
    """What a folder of shards holds."""

    counts: dict[str, int]
    """Samples by shard, in their order."""
    bare: int
    """Samples without a mask."""
    bytes: int


def refuse_shards(folder: Path) -> None:
    """Shards are never mixed with others, nor written over.

    Raises:
        InputError: The folder holds shards, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output={folder} is a file: give a folder")
    there = [path.name for path in sorted(folder.glob("*.tar"))] + [MANIFEST] * (folder / MANIFEST).exists()
    if there:
        raise InputError(f"output={folder} already holds shards ({there[0]}): give a new folder, or empty this one")


def write_shards(source: FileSource, order: Sequence[int], folder: Path, samples_per_shard: int) -> Written:
    """Write samples in this order as ``000000.tar``, ``000001.tar`` … and ``shards.json``.

    Files are copied byte for byte. Each shard gets its name when it is whole. The same files and order always make the
    same shards.

    Args:
        source: Images and masks. Files that turn out bad are handled by its ``on_bad``.
        order: Which of its images, and in which order.
        folder: Where to write.
        samples_per_shard: The last shard may hold fewer.

    Raises:
        InputError: A shard cannot be written; or a file is bad and ``on_bad`` is ``"error"``.
    """
    counts: dict[str, int] = {}
    bare = size = 0
    with progress("Writing shards") as bar:
        task = bar.add_task("", total=len(order), rate="")

        def samples() -> Iterator[Members]:
            for members in _ahead(lambda index: _members(source, index), order):
                bar.update(task, advance=1, rate=f"{bar.tasks[0].speed or 0:.0f} images/s")
                if members is not None:
                    yield members

        waiting = samples()
        while first := next(waiting, None):
            path = folder / f"{len(counts):06d}.tar"
            shard = chain([first], islice(waiting, samples_per_shard - 1))
            counts[path.name], without = _write(path, shard, sum(counts.values()))
            bare += without
            size += path.stat().st_size
    write_manifest(folder, counts)
    return Written(counts, bare, size)


def _members(source: FileSource, index: int) -> Members | None:
    """The files of a sample by suffix; None where it is to be left out."""
    entry = source.entry(index)
    try:
        image = read_bytes(source.image_path(index)).tobytes()
    except SampleError as error:
        source.give_up(index, error)
        return None
    mask: Members = {}
    try:
        if source.masks is not None and not entry.problem:
            mask = _mask(source, index)
    except SampleError as error:
        if not source.bad.handle(index, error, mask=True, image=entry.image):
            return None
    about = {"image": entry.image} if mask else {"image": entry.image, "mask": None}
    return {_suffix(entry.image): image, **mask, "json": json.dumps(about).encode()}


def _mask(source: FileSource, index: int) -> Members:
    """The mask's file; or one made from annotations, which have none."""
    path = source.mask_path(index)
    if path is not None:
        return {f"mask.{_suffix(path.name)}": read_bytes(path).tobytes()}
    mask = source.read(index).mask
    if mask is None:
        return {}
    return {"mask.png": cv2.imencode(".png", mask * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()}


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _write(path: Path, samples: Iterable[Members], first: int) -> tuple[int, int]:
    """Write a shard, and return how many samples it holds, and how many of them without a mask."""
    part = path.with_suffix(".tar.part")
    count = bare = 0
    try:
        # mtime=0: the bytes tell of the content alone.
        with part.open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
            for members in samples:
                tar.write({"__key__": f"{first + count:08d}", **members})
                count += 1
                bare += not any(name.startswith("mask.") for name in members)
        os.replace(part, path)  # noqa: PTH105
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return count, bare


def _ahead(work: Callable[[int], T], items: Iterable[int]) -> Iterator[T]:
    """``map``, with a few threads that work a little ahead: slow disks answer many at once."""
    rest = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = deque(pool.submit(work, item) for item in islice(rest, 4 * _THREADS))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
