"""List the images and masks in a tree of folders, and check folders that users give."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from castlit.utils.validation import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of images."""

MASK_SUFFIXES = (".png", ".npy", *IMAGE_SUFFIXES[1:])
"""Suffixes of masks, in order of preference."""


BESIDE_SUFFIXES = (".png", ".npy")
"""Suffixes of masks that lie beside their photographs, in one folder."""

PHOTOGRAPH_SUFFIXES = IMAGE_SUFFIXES[1:]
"""Suffixes of photographs beside their masks."""


class Folder(NamedTuple):
    """One folder of a tree."""

    path: str
    """Relative to the top of the tree, with forward slashes; empty for the top itself."""
    files: list[str]
    """Sorted names of its files, without those that start with a dot."""
    modified: int
    """When a file was last added or removed, in nanoseconds."""


def walk(top: Path) -> Iterator[Folder]:
    """All folders in ``top``, itself included, each once. Links are followed.

    Folders whose name starts with a dot are skipped.

    Raises:
        OSError: A folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    for where, folders, files in os.walk(top, followlinks=True, onerror=_raise):
        state = os.stat(where)  # noqa: PTH116 - os.walk gives strings
        # A link to a parent folder would make the walk endless.
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(where).relative_to(top).as_posix()
        names = sorted(name for name in files if not name.startswith("."))
        yield Folder("" if inside == "." else inside, names, state.st_mtime_ns)


def by_stem(names: list[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Group the names with one of ``suffixes`` by their stem; each group is in the order of the suffixes."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a loop over millions
        if suffix.lower() in suffixes:
            found.setdefault(stem, []).append(name)
    for same in found.values():
        if len(same) > 1:
            same.sort(key=lambda name: suffixes.index(os.path.splitext(name)[1].lower()))  # noqa: PTH122
    return found


def join(folder: str, name: str) -> str:
    """The path of a file in a :class:`Folder`, relative to the top of the tree."""
    return f"{folder}/{name}" if folder else name


def require_folder(key: str, path: str | Path, content: str) -> Path:
    """Return ``path`` as a Path if it is a folder.

    Raises:
        FileNotFoundError: It is not; the message names the argument and the expected content.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{key}={folder} {what}: give the folder that holds {content}")
    return folder


def same_folder(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same folder."""
    return one.resolve() == other.resolve()


def refuse_nested(key: str, masks: Path, images_key: str, images: Path) -> None:
    """Check that masks cannot be read as images, nor images as masks.

    Raises:
        InputError: One folder is or contains the other.
    """
    one, other = masks.resolve(), images.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise InputError(
            f"{key}={masks} and {images_key}={images} are the same folder or one inside the other, and masks would be "
            "read as images: give the masks a separate folder"
        )


def require_masks(key: str, path: str | Path) -> Path:
    """Return ``path`` as a Path if it is a folder, or a JSON file.

    Raises:
        FileNotFoundError: It is neither.
        InputError: It is a file without the suffix .json.
    """
    given = Path(path).expanduser()
    if given.suffix.lower() == ".json" and not given.is_dir():
        if not given.is_file():
            raise FileNotFoundError(f"{key}={given} does not exist: give COCO's instances_*.json, or a folder of masks")
        return given
    if given.is_file():
        raise InputError(f"{key}={given} is a file: give a folder of masks, or COCO's instances_*.json")
    return require_folder(key, given, "the saliency masks")


def require_folders(images: str | Path, masks: str | Path | None, prefix: str = "") -> tuple[Path, Path | None]:
    """Return the folder of photographs, and that of their masks or their JSON file, as paths.

    Args:
        images: What the user gave as ``images``.
        masks: Likewise.
        prefix: Of the arguments' names, such as ``val_``.

    Raises:
        FileNotFoundError: One does not exist.
        InputError: One folder is inside the other, or the masks are another file. (The same folder is allowed: see
            :data:`BESIDE_SUFFIXES`.)
    """
    folder = require_folder(f"{prefix}images", images, "the photographs")
    if masks is None:
        return folder, None
    found = require_masks(f"{prefix}masks", masks)
    if not found.is_file() and not same_folder(folder, found):
        refuse_nested(f"{prefix}masks", found, f"{prefix}images", folder)
    return folder, found


def _raise(error: OSError) -> None:
    raise error
