"""Write the images and masks of folders as shards."""

import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2

from castlit.data.index.file_source import FileSource
from castlit.data.io.errors import SampleError
from castlit.data.io.images import read_bytes
from castlit.data.shards.manifest import MANIFEST, write_manifest
from castlit.utils.progress import progress
from castlit.utils.validation import InputError

_THREADS = 8

T = TypeVar("T")
Members = dict[str, bytes]


class Written(NamedTuple):
    """The shards that were written."""

    counts: dict[str, int]
    """Number of samples by shard, in their order."""
    unmasked: int
    """Samples without a mask."""
    bytes: int


def refuse_shards(folder: Path) -> None:
    """Check that a folder has no shards: new ones are not mixed with others, nor do they overwrite them.

    Raises:
        InputError: The folder has shards, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output={folder} is a file: give a folder")
    existing = [path.name for path in sorted(folder.glob("*.tar"))] + [MANIFEST] * (folder / MANIFEST).exists()
    if existing:
        raise InputError(f"output={folder} already holds shards ({existing[0]}): give a new folder, or empty this one")


def write_shards(source: FileSource, order: Sequence[int], folder: Path, samples_per_shard: int) -> Written:
    """Write samples in this order as ``000000.tar``, ``000001.tar`` … and ``shards.json``.

    Files are copied byte for byte. A shard is renamed from ``.part`` when it is complete. The same files and order
    always give the same shards.

    Args:
        source: Images and masks. Bad files are handled by its ``on_bad``.
        order: Indices of its images, in the order to write.
        folder: Where to write.
        samples_per_shard: Samples of each shard; the last one may have fewer.

    Raises:
        InputError: A shard cannot be written; or a file is bad and ``on_bad`` is ``"error"``.
    """
    counts: dict[str, int] = {}
    unmasked = size = 0
    with progress("Writing shards") as bar:
        task = bar.add_task("", total=len(order), rate="")

        def samples() -> Iterator[Members]:
            for members in _prefetch(lambda index: _members(source, index), order):
                bar.update(task, advance=1, rate=f"{bar.tasks[0].speed or 0:.0f} images/s")
                if members is not None:
                    yield members

        waiting = samples()
        while first := next(waiting, None):
            path = folder / f"{len(counts):06d}.tar"
            shard = chain([first], islice(waiting, samples_per_shard - 1))
            counts[path.name], without = _write(path, shard, sum(counts.values()))
            unmasked += without
            size += path.stat().st_size
    write_manifest(folder, counts)
    return Written(counts, unmasked, size)


def _members(source: FileSource, index: int) -> Members | None:
    """The files of a sample by suffix; None if it is left out."""
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
    metadata = {"image": entry.image} if mask else {"image": entry.image, "mask": None}
    return {_suffix(entry.image): image, **mask, "json": json.dumps(metadata).encode()}


def _mask(source: FileSource, index: int) -> Members:
    """The mask's file; or a PNG made from annotations."""
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
    """Write a shard, and return its number of samples, and the number of those without a mask."""
    part = path.with_suffix(".tar.part")
    count = unmasked = 0
    try:
        with part.open("wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
            for members in samples:
                for suffix, data in sorted(members.items()):
                    tar.addfile(_entry(f"{first + count:08d}.{suffix}", len(data)), io.BytesIO(data))
                count += 1
                unmasked += not any(name.startswith("mask.") for name in members)
        os.replace(part, path)  # noqa: PTH105
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return count, unmasked


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """A file's header as webdataset writes it; without a time, so that the bytes depend on the content only."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o444, 0
    entry.uname = entry.gname = "bigdata"
    return entry


def _prefetch(work: Callable[[int], T], items: Iterable[int]) -> Iterator[T]:
    """``map`` with a few threads that work ahead, as slow disks serve several requests at once."""
    rest = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = deque(pool.submit(work, item) for item in islice(rest, 4 * _THREADS))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
