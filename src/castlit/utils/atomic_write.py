"""Files that are whole or not there, whenever the process is killed."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

PART = ".part"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The errors after which no other file can be written either."""


def write_whole(path: Path, data: bytes, *, lasting: bool = False, writer: str = "") -> None:
    """Write beside the file, then rename.

    Args:
        path: What to write; its folder is made where there is none.
        data: All of it.
        lasting: Also wait until it is on the disk, so that it outlives a power cut.
        writer: Tells apart those who may write this file at the same moment.

    Raises:
        OSError: It cannot be written; what was there is as it was.
    """
    part = part_of(path, writer)
    try:
        with _opened(part) as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)  # noqa: PTH105
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # The user knows the file by its own name.
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def part_of(path: Path, writer: str = "") -> Path:
    """Where a file is written before it gets its name.

    The same place every time: what a killed run left there is written over by the next. Its name starts with a dot, so
    that nobody takes it for an image; it is a hash, as the file's own name may be as long as names can be.
    """
    digest = hashlib.blake2b(os.fsencode(path.name) + writer.encode(), digest_size=8).hexdigest()
    return path.with_name(f".{digest}{PART}")


def _opened(part: Path) -> BinaryIO:
    try:
        return part.open("wb")
    except FileNotFoundError:
        part.parent.mkdir(parents=True, exist_ok=True)
        return part.open("wb")
