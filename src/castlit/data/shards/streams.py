"""Read webdataset's samples from a shard, from its start or from the middle; and count them."""

import contextlib
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from webdataset.gopen import gopen

from castlit.data.io.errors import SampleError
from castlit.data.shards.tar_samples import (
    Header,
    RawSample,
    SampleOrder,
    TornSampleError,
    members,
    sample_name,
    tar_samples,
)
from castlit.data.shards.urls import local_path

_BLOCK = 512
_ENDS = 1.0  # seconds in which a command whose output has ended ends
_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, RecursionError)


class ShardError(SampleError):
    """A shard cannot be read, or not completely; the message names it. It stops training whatever ``on_bad`` is."""


def read_samples(url: str, start: int = 0, stop: int | None = None) -> Iterator[RawSample]:
    """The samples ``start`` to ``stop`` of a shard; ``stop`` None means to its end.

    In an uncompressed local file, samples before ``start`` are skipped without reading them.

    Raises:
        ShardError: The shard cannot be opened, is damaged, or ends before ``stop``.
    """
    stream: Any = None
    try:
        stream, number = _open(url, start)
        for sample in tar_samples(stream, url):
            if number >= start:
                yield sample
            number += 1
            if number == stop:
                return
        _drain(stream)
    except _DAMAGE as error:
        raise _explained(url, error, stream) from None
    finally:
        # A command whose output is not read to its end fails, which is no error here.
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    if stop is not None:
        raise ShardError(
            f"{url}: ends after {number} samples, but at least {stop} were counted: it is damaged, or has changed "
            "since (delete shards.json beside it and shard_counts.json in data.cache, or write it again)"
        )


def count_samples(url: str) -> int:
    """The number of samples in a shard. In an uncompressed local file, only the headers are read.

    Raises:
        ShardError: The shard cannot be opened, or is damaged or cut short.
    """
    path = local_path(url)
    if path is not None:
        try:
            with path.open("rb") as file, contextlib.suppress(_Compressed):
                return _count(file)
        except _DAMAGE as error:
            raise _explained(url, error) from None
    return sum(1 for _ in read_samples(url))


class _Compressed(Exception):
    """The file is not an uncompressed tar file; it may be a compressed one."""


def _open(url: str, start: int) -> tuple[Any, int]:
    """A stream positioned at a sample, and the number of that sample, which is at most ``start``."""
    path = local_path(url)
    if path is None:
        return gopen(url), 0
    file = path.open("rb")
    try:
        return file, _skip(file, start)
    except BaseException:
        file.close()
        raise


def _skip(file: IO[bytes], start: int) -> int:
    """Seek to sample ``start`` if possible; return the number of the sample at the new position."""
    if start == 0:
        return 0
    try:
        for number, offset in enumerate(_sample_offsets(_open_tar(file))):
            if number == start:
                file.seek(offset)
                return start
    except _Compressed:
        pass
    file.seek(0)  # reading it from the start gives the error
    return 0


def _count(file: IO[bytes]) -> int:
    tar = _open_tar(file)
    count = sum(1 for _ in _sample_offsets(tar))
    # Python and webdataset treat a damaged or missing header as the end.
    file.seek(tar.offset)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise tarfile.ReadError("the end mark is missing: it is cut short or damaged")
    return count


def _open_tar(file: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:", tarinfo=Header)
    except tarfile.ReadError:
        raise _Compressed from None


def _sample_offsets(tar: tarfile.TarFile) -> Iterator[int]:
    """Offset of each sample, by webdataset's rule: consecutive members with the same key are a sample."""
    order = SampleOrder()
    current, suffixes = None, set[str]()
    for member in members(tar):
        found = sample_name(member)
        if found is None:
            continue
        key, suffix = found
        if key != current:
            if current is not None:
                order.check(current, frozenset(suffixes))
            current, suffixes = key, set()
            yield member.offset
        suffixes.add(suffix)
    if current is not None:
        order.check(current, frozenset(suffixes))


def _drain(stream: Any) -> None:  # noqa: ANN401
    """Read to the end and close, so that a command's exit status is checked."""
    while stream.read(1 << 20):
        pass
    stream.close()


def _explained(url: str, error: BaseException, stream: Any = None) -> ShardError:  # noqa: ANN401
    """The error, with what its user can do."""
    if isinstance(error, TornSampleError):
        return ShardError(f"{url}: {error}")
    status = _exit_status(stream)
    if status:
        return ShardError(f"{url}: cannot be read: the command failed (exit code {status})")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return ShardError(f"{url}: cannot be read as a tar file ({reason})")


def _exit_status(stream: Any) -> int | None:  # noqa: ANN401
    """The exit code of the command of a ``pipe:`` that has ended, or is about to; None for other streams."""
    process = getattr(stream, "proc", None)
    if process is None:
        return None
    with contextlib.suppress(subprocess.TimeoutExpired):
        return int(process.wait(_ENDS))
    return None


def split_folder(url: str) -> tuple[str, str] | None:
    """A shard's folder and its name there; None for a ``pipe:``, which has no folder."""
    path = local_path(url)
    if path is not None:
        return str(path.parent), path.name
    folder, slash, name = url.rpartition("/")
    return (folder, name) if slash and not url.startswith("pipe:") else None


def read_small_file(folder: str, name: str) -> bytes | None:
    """The content of a small file in a folder of shards; None if there is no such file, or it is empty."""
    path = local_path(folder)
    try:
        if path is not None:
            return Path(path, name).read_bytes()
        with gopen(f"{folder}/{name}") as stream:
            data: bytes = stream.read()
            return data or None
    except (OSError, ValueError):
        return None
