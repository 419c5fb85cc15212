"""Versions of the masks that a run makes while it trains. Each version is complete, or not there at all.

``<folder>/epoch_20`` is version 20: the masks that were made after 20 epochs.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

_PREFIX = "epoch_"
_PART = ".part"


def folder_of(folder: Path, version: int) -> Path:
    """The folder of a version, among the others in ``folder``."""
    return folder / f"{_PREFIX}{version}"


def part_of(folder: Path, version: int) -> Path:
    """The folder of a version while it is being written."""
    return folder / f"{_PREFIX}{version}{_PART}"


def begin(folder: Path, version: int) -> None:
    """Create the folder to write a version to. Files of an interrupted attempt are removed.

    Raises:
        OSError: The folder cannot be written to.
    """
    part = part_of(folder, version)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def finish(folder: Path, version: int) -> None:
    """Move a written version to its final folder. It replaces one of the same number, which must not be in use."""
    done = folder_of(folder, version)
    if done.exists():
        shutil.rmtree(done)
    part_of(folder, version).replace(done)


def copy(source: Path, folder: Path, version: int) -> None:
    """Copy a version from another folder."""
    begin(folder, version)
    shutil.copytree(folder_of(source, version), part_of(folder, version), dirs_exist_ok=True)
    finish(folder, version)


def remove_all_but(folder: Path, keep: Iterable[int | None]) -> None:
    """Remove all other versions, and the files of interrupted attempts."""
    kept = {folder_of(folder, version) for version in keep if version is not None}
    for path in folder.glob(f"{_PREFIX}*"):
        if path.is_dir() and path not in kept:
            shutil.rmtree(path, ignore_errors=True)
