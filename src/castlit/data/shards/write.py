"""Write the images and masks of folders as shards."""

import io
import json
import logging
import os
import tarfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2

from castlit.data.index.file_source import FileSource
from castlit.data.io.errors import SampleError
from castlit.data.io.folders import MARK
from castlit.data.io.images import read_bytes
from castlit.data.shards.manifest import MANIFEST, write_manifest
from castlit.data.shards.unfinished import Progress, progress_key, read_progress
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError

_THREADS = 8

T = TypeVar("T")
Members = dict[str, bytes]

logger = logging.getLogger(__name__)


class Written(NamedTuple):
    """The shards that were written."""

    counts: dict[str, int]
    """Number of samples by shard, in their order."""
    unmasked: int
    """Samples without a mask."""
    bytes: int


def refuse_shards(folder: Path) -> None:
    """Check that a folder has no finished shards: new ones are not mixed with others, nor do they overwrite them.

    Raises:
        InputError: The folder has shards, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output={folder} is a file: give a folder")
    existing = [path.name for path in sorted(folder.glob("*.tar")) if not path.name.startswith(".")]
    existing += [MANIFEST] * (folder / MANIFEST).exists()
    if existing and read_progress(folder) is None:
        raise InputError(f"output={folder} already holds shards ({existing[0]}): give a new folder, or empty this one")


def write_shards(source: FileSource, order: Sequence[int], folder: Path, samples_per_shard: int) -> Written:
    """Write samples in this order as ``000000.tar``, ``000001.tar`` … and ``shards.json``.

    Files are copied byte for byte. A shard is renamed from ``.part`` when it is complete. The same files and order
    always give the same shards. Until all are complete, ``unfinished.json`` is in the folder, and the shards that it
    lists are not written again.

    Args:
        source: Images and masks. Bad files are handled by its ``on_bad``.
        order: Indices of its images, in the order to write.
        folder: Where to write.
        samples_per_shard: Samples of each shard; the last one may have fewer.

    Raises:
        InputError: A shard cannot be written; a file is bad and ``on_bad`` is ``"error"``; or the folder has unfinished
            shards of another command, or lacks some of its own.
    """
    begun = _begin(folder, progress_key(source, order, samples_per_shard))
    shards, position = dict(begun.shards), begun.position
    with ProgressLog("Writing shards", len(order) - position) as pace:

        def samples() -> Generator[Members, None, None]:
            nonlocal position
            for members in _prefetch(lambda index: _members(source, index), order[position:]):
                position += 1
                pace.advance()
                if members is not None:
                    yield members

        with closing(samples()) as waiting:
            while first := next(waiting, None):
                path = folder / f"{len(shards):06d}.tar"
                number = sum(shard["samples"] for shard in shards.values())
                count, unmasked = _write(path, chain([first], islice(waiting, samples_per_shard - 1)), number)
                shards[path.name] = {"samples": count, "unmasked": unmasked, "bytes": path.stat().st_size}
                _save(begun._replace(shards=shards, position=position), folder)
    counts = {name: shard["samples"] for name, shard in shards.items()}
    if counts:
        write_manifest(folder, counts)
    (folder / MARK).unlink()
    unmasked, size = (sum(shard[key] for shard in shards.values()) for key in ("unmasked", "bytes"))
    return Written(counts, unmasked, size)


def _begin(folder: Path, key: str) -> Progress:
    """Mark the folder as unfinished, and return how far it is."""
    found = read_progress(folder)
    for part in folder.glob("*.tar.part"):
        part.unlink()  # of a killed process; the caller's lock says that no other one writes here
    if found is not None and found.shards:
        if found.key != key:
            raise InputError(
                f"output={folder} holds the unfinished shards of another command, or of files that have changed since: "
                "give a new folder, or empty this one"
            )
        for name, shard in found.shards.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                raise InputError(
                    f"{path} is missing or cut short, and {MARK} lists it: give a new folder, or empty this one"
                )
        logger.info("%s: %d shards are complete; continuing with the next", folder, len(found.shards))
        return found
    new = Progress(key, {}, 0)
    _save(new, folder)
    return new


def _save(so_far: Progress, folder: Path) -> None:
    try:
        so_far.save(folder)
    except OSError as error:
        raise InputError(f"{folder / MARK}: cannot be written ({error.strerror or error})") from None


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
