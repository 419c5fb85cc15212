"""Files that are complete or absent, even if the process is killed while it writes."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The errors after which no other file can be written either."""


@contextmanager
def atomic_path(path: Path, *, writer: str = "") -> Iterator[Path]:
    """Give a temporary path to write to; rename it to ``path`` at the end of the context.

    Args:
        path: The file; its folder is created where it is missing.
        writer: Distinguishes processes that may write this file at the same moment.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
    part = part_of(path, writer)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)  # noqa: PTH105
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # The user knows the file by its final name.
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def write_atomic(path: Path, data: bytes, *, lasting: bool = False, writer: str = "") -> None:
    """Write a file beside its place, then rename it.

    Args:
        path: The file; its folder is created where it is missing.
        data: Its content.
        lasting: Whether to wait until it is on the disk, so that it survives a power cut.
        writer: Distinguishes processes that may write this file at the same moment.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
    with atomic_path(path, writer=writer) as part, part.open("wb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(file.fileno())


def part_of(path: Path, writer: str = "") -> Path:
    """The temporary file beside a file.

    The name is always the same, so that a later run overwrites what a killed run left. It starts with a dot, so that no
    program takes it for an image. It is a hash, because the file's own name may have the maximum length already.
    """
    digest = hashlib.blake2b(os.fsencode(path.name) + writer.encode(), digest_size=8).hexdigest()
    return path.with_name(f".{digest}.part")
