"""The folders of masks that a run makes for itself, one after the other: each is there as a whole, or not at all.

``<folder>/epoch_20`` holds those that were made when 20 epochs were done.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

_PREFIX = "epoch_"
_PART = ".part"


def folder_of(folder: Path, edition: int) -> Path:
    """Where an edition is, among others in this folder."""
    return folder / f"{_PREFIX}{edition}"


def part_of(folder: Path, edition: int) -> Path:
    """Where it is while it is being made."""
    return folder / f"{_PREFIX}{edition}{_PART}"


def begin(folder: Path, edition: int) -> None:
    """Make room for a new edition; what an attempt that was broken off has left there is removed.

    Raises:
        OSError: The folder cannot be written to.
    """
    part = part_of(folder, edition)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def finish(folder: Path, edition: int) -> None:
    """Put what was made in its place; nobody may be reading an older edition of the same number."""
    done = folder_of(folder, edition)
    if done.exists():
        shutil.rmtree(done)
    part_of(folder, edition).replace(done)


def copy(source: Path, folder: Path, edition: int) -> None:
    """Bring an edition over from another folder."""
    begin(folder, edition)
    shutil.copytree(folder_of(source, edition), part_of(folder, edition), dirs_exist_ok=True)
    finish(folder, edition)


def remove_all_but(folder: Path, keep: Iterable[int | None]) -> None:
    """Remove the other editions, and what is left of attempts that were broken off."""
    kept = {folder_of(folder, edition) for edition in keep if edition is not None}
    for path in folder.glob(f"{_PREFIX}*"):
        if path.is_dir() and path not in kept:
            shutil.rmtree(path, ignore_errors=True)
