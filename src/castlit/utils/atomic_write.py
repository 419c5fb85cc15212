"""Files that are complete or absent, even if the process is killed while it writes."""

import errno
import hashlib
import itertools
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The errors after which no other file can be written either."""

ALONE = ""
"""The writer of files that only one process writes at a time, as under a lock."""

_STALE_S = 3600
"""A temporary file that has not been written to for so long is of a killed process."""

_numbers = itertools.count()


@contextmanager
def atomic_path(path: Path, *, writer: str | None = None) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to ``path`` at the end of the context.

    Several processes may write the same file at the same moment: the last one to end wins.

    Args:
        path: The file; its folder is created where it is missing.
        writer: See :func:`part_of`.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
    part = part_of(path, writer)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if writer is None:
            _remove_stale(part.parent)
        yield part
        os.replace(part, path)  # noqa: PTH105
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # The user knows the file by its final name.
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def write_atomic(path: Path, data: bytes, *, lasting: bool = False, writer: str | None = None) -> None:
    """Write a file beside its place, then rename it.

    Args:
        path: The file; its folder is created where it is missing.
        data: Its content.
        lasting: Whether to wait until it is on the disk, so that it survives a power cut.
        writer: See :func:`part_of`.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
    with atomic_path(path, writer=writer) as part, part.open("wb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(file.fileno())


def disk_error(error: BaseException) -> OSError | None:
    """The error of a disk, such as a full one, that is or lies beneath another error; None if there is none."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, OSError) and found.errno is not None:
            return found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return None


def part_of(path: Path, writer: str | None = None) -> Path:
    """The temporary file beside a file.

    Its name starts with a dot, so that no program takes it for an image. It is a hash, because the file's own name may
    have the maximum length already.

    Args:
        path: The file.
        writer: None: a name of its own for each call; what a killed process left is removed an hour later. A text:
            always the same name for the same text, so that a later run overwrites what a killed one left; the file has
            no other writer of this text at the same moment (:data:`ALONE`: none at all).
    """
    if writer is None:
        writer = f"{socket.gethostname()} {os.getpid()} {next(_numbers)}"
    digest = hashlib.blake2b(os.fsencode(path.name) + writer.encode(), digest_size=8).hexdigest()
    return path.with_name(f".{digest}.part")


@cache  # once for each folder: it may hold very many files
def _remove_stale(folder: Path) -> None:
    """Remove temporary files of killed processes."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if re.fullmatch(r"\.[0-9a-f]{16}\.part", entry.name):
                with suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _STALE_S:
                        Path(entry.path).unlink()
