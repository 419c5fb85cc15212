"""Read what ``torch.save`` wrote, as plain values and tensors: nothing in the file is executed."""

from pathlib import Path
from typing import Any

import torch

from castlit.utils.validation import InputError


class DamagedFileError(InputError):
    """A file is not what it should be: cut short, overwritten, or of another kind."""


def read_plain(path: str | Path, name: str, kind: str = "a checkpoint", mapped: bool = True) -> Any:  # noqa: ANN401
    """Read a file of plain values and tensors.

    Args:
        path: A local file.
        name: What messages call it, such as ``resume=last.ckpt``.
        kind: What messages say it should be.
        mapped: Map the tensors, which reads them where they are used: looking at the settings must not load gigabytes
            of weights. Files of torch before 1.6 cannot be mapped.

    Raises:
        DamagedFileError: It is damaged, or holds anything else.
        OSError: It cannot be read.
    """
    try:
        if mapped and _is_utf8(path):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with open(path, "rb") as file:  # noqa: PTH123 - torch itself opens only paths in UTF-8
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        raise DamagedFileError(f"{name}: not {kind}, or damaged ({error.strerror})") from error
    except Exception as error:  # damage in the pickle raises anything
        raise DamagedFileError(f"{name}: not {kind}, or damaged ({type(error).__name__})") from error


def _is_utf8(path: str | Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
