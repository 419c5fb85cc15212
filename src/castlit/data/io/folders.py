"""List the images and masks in a tree of folders, and check folders that users give."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from castlit.utils.validation import InputError, require_path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of images."""

MASK_SUFFIXES = (".png", ".npy", *IMAGE_SUFFIXES[1:])
"""Suffixes of masks, in order of preference."""


MARK = "unfinished.json"
"""Marks a folder whose files are being written: it has only a part of them."""

_NOT_IMAGES = frozenset(
    [
        *("@eaDir", "@tmp", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),  # file servers
        *("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    ]
)

_RUN = ".hydra"  # a folder in each run's folder

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
    """All folders in ``top``, itself included, each once: first the real ones, then those that links lead to.

    Skipped are those that :func:`is_skipped` names, and folders of runs, which have pictures and masks of their own.

    Raises:
        OSError: A folder cannot be read.
        InputError: A folder is unfinished.
    """
    seen: set[tuple[int, int]] = set()
    starts = [os.fspath(top)]
    # A list that grows: a link is followed when all real folders have been visited, under their own names.
    for start in starts:
        for where, folders, files in os.walk(start, onerror=_raise):
            state = os.stat(where)  # noqa: PTH116 - os.walk gives strings
            # A link to a parent folder would make the walk endless.
            if (state.st_dev, state.st_ino) in seen or (_RUN in folders and where != starts[0]):
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            if MARK in files:
                refuse_unfinished(Path(where))
            folders[:] = sorted(name for name in folders if not is_skipped(name))
            paths = [os.path.join(where, name) for name in folders]  # noqa: PTH118
            starts += filter(os.path.islink, paths)
            inside = Path(where).relative_to(top).as_posix()
            names = sorted(name for name in files if not name.startswith("."))
            yield Folder("" if inside == "." else inside, names, state.st_mtime_ns)


def is_skipped(folder: str) -> bool:
    """Whether a folder of this name has no images: those that start with a dot, thumbnails, trash and the like."""
    return folder.startswith(".") or folder in _NOT_IMAGES


def by_stem(names: list[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Group the names with one of ``suffixes`` by their stem's :func:`match_key`, in the order of the suffixes."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a loop over millions
        if suffix.lower() in suffixes:
            found.setdefault(match_key(stem), []).append(name)
    for same in found.values():
        if len(same) > 1:
            same.sort(key=lambda name: suffixes.index(os.path.splitext(name)[1].lower()))  # noqa: PTH122
    return found


def match_key(name: str) -> str:
    """What is equal for two names that read alike: macOS writes é as two characters, other systems as one.

    Names from the file system and from other files (JSON) have the same key, whatever the system's encoding.
    """
    if name.isascii():
        return name
    try:
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, in a JSON
        return name
    return unicodedata.normalize("NFC", name)


def find_file(top: Path, relative: str) -> Path | None:
    """The file with this path below ``top``, or else one whose path reads alike (see :func:`match_key`)."""
    if (top / relative).is_file():
        return top / relative
    place = top
    for part in () if relative.isascii() else PurePosixPath(relative).parts:
        names = os.listdir(place) if place.is_dir() else ()  # noqa: PTH208 - names alone
        alike = next((name for name in names if match_key(name) == match_key(part)), None)
        if alike is None:
            return None
        place /= alike
    return place if place.is_file() else None


def join(folder: str, name: str) -> str:
    """The path of a file in a :class:`Folder`, relative to the top of the tree."""
    return f"{folder}/{name}" if folder else name


def refuse_unfinished(folder: Path) -> None:
    """Check that a folder has all its files.

    Raises:
        InputError: It has not; the program that writes it was interrupted, or still works.
    """
    if (folder / MARK).is_file():
        raise InputError(
            f"{folder} is unfinished ({MARK}): run the castlit command that was interrupted again to complete it"
        )


def require_folder(key: str, path: str | Path, content: str) -> Path:
    """Return ``path`` as a Path if it is a folder.

    Raises:
        FileNotFoundError: It is not; the message names the argument and the expected content.
        InputError: It is unfinished, or no path.
    """
    folder = require_path(key, path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{key}={folder} {what}: give the folder that holds {content}")
    refuse_unfinished(folder)
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
        InputError: It is a file without the suffix .json, or no path.
    """
    given = require_path(key, path)
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
