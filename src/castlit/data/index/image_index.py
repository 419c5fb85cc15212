"""The index: path, size, mask area and problem of every image, in arrays mapped from files."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.utils.bytes_array import BytesArray, decode

FORMAT = 2
"""Increase it when the format of the files changes: indices of older formats are rebuilt."""

_META = "index.json"


class Problem(IntEnum):
    """What is wrong with an image or its mask."""

    NONE = 0
    IMAGE_UNREADABLE = 1
    MASK_MISSING = 2
    MASK_UNREADABLE = 3
    MASK_MISMATCHED = 4
    MASK_EMPTY = 5
    MASK_SHARED = 6
    MASK_LABELS = 7
    IMAGE_LIKE_MASK = 8

    @property
    def label(self) -> str:
        """Text for messages and reports."""
        return _LABELS[self]


_LABELS = {
    Problem.NONE: "none",
    Problem.IMAGE_UNREADABLE: "image unreadable",
    Problem.MASK_MISSING: "mask missing",
    Problem.MASK_UNREADABLE: "mask unreadable",
    Problem.MASK_MISMATCHED: "mask mismatched",
    Problem.MASK_EMPTY: "mask empty",
    Problem.MASK_SHARED: "mask shared by two images",
    Problem.MASK_LABELS: "mask is a label map",
    Problem.IMAGE_LIKE_MASK: "image looks like a mask",
}


class Entry(NamedTuple):
    """One image of an index."""

    image: str
    """Path relative to the folder of images, with forward slashes."""
    mask: str
    """Path relative to the folder of masks; empty if the image has no mask file."""
    size: tuple[int, int]
    """(H, W) of the upright image in pixels; (0, 0) if it is unreadable."""
    area: float
    """Salient fraction of the mask, in [0, 1]."""
    problem: Problem


class ImageIndex:
    """Paths, sizes, mask areas and problems of N images.

    Args:
        images: N paths.
        masks: N paths, see :class:`Entry`.
        packed: N masks from :func:`castlit.data.index.packed_mask.pack_mask`, at their image's size; empty if none.
        states: (N, 2) int64, size and modification time of each mask file when it was packed.
        sizes: (N, 2) int32, height and width.
        areas: (N,) float32.
        problems: (N,) uint8 of :class:`Problem`.
        details: Descriptions of the problems, one for each entry that has one, in their order.
        orphans: Paths of masks without an image.
        stamp: State of the files that the index was built from, see :meth:`open`.
        folder: Where it is saved, if it is.
    """

    def __init__(
        self,
        images: BytesArray,
        masks: BytesArray,
        packed: BytesArray,
        states: NDArray[np.int64],
        sizes: NDArray[np.int32],
        areas: NDArray[np.float32],
        problems: NDArray[np.uint8],
        details: BytesArray,
        orphans: BytesArray,
        stamp: dict[str, Any],
        folder: Path | None = None,
    ) -> None:
        self.images, self.masks, self.packed, self.states = images, masks, packed, states
        self.sizes, self.areas = sizes, areas
        self.problems, self.details, self.orphans = problems, details, orphans
        self.stamp, self.folder = stamp, folder

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Entry:
        height, width = self.sizes[index].tolist()
        return Entry(
            decode(self.images[index]),
            decode(self.masks[index]),
            (height, width),
            float(self.areas[index]),
            Problem(int(self.problems[index])),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that does not share memory maps the files itself, instead of receiving gigabytes.
        if self.folder is not None:
            return ImageIndex.open, (self.folder,)
        return ImageIndex, tuple(getattr(self, name) for name in _PARTS)

    def save(self, folder: Path) -> None:
        """Write the index as a folder of arrays, atomically: a reader finds the new index or the old one."""
        part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
        part.mkdir(parents=True)
        try:
            for name in _STRINGS:
                np.save(part / f"{name}.npy", getattr(self, name).data)
                np.save(part / f"{name}_offsets.npy", getattr(self, name).offsets)
            for name in _ARRAYS:
                np.save(part / f"{name}.npy", getattr(self, name))
            (part / _META).write_text(json.dumps({"format": FORMAT, "stamp": self.stamp}))
            _replace(part, folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, is_current: Callable[[dict[str, Any]], bool] | None = None) -> "ImageIndex | None":
        """Map an index from its folder.

        Args:
            folder: Where :meth:`save` wrote it.
            is_current: Takes the stamp; returns whether the index still describes the files.

        Returns:
            The index; None if there is none, it has another format, or it is out of date.
        """
        try:
            meta = json.loads((folder / _META).read_text())
            if meta["format"] != FORMAT or (is_current is not None and not is_current(meta["stamp"])):
                return None
            parts: dict[str, Any] = {name: _map(folder, name) for name in _ARRAYS}
            for name in _STRINGS:
                parts[name] = BytesArray(_map(folder, name), _map(folder, f"{name}_offsets"))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # missing or damaged: it is only a cache
        return cls(**parts, stamp=meta["stamp"], folder=folder)


_STRINGS = ("images", "masks", "packed", "details", "orphans")
_ARRAYS = ("states", "sizes", "areas", "problems")
_PARTS = ("images", "masks", "packed", "states", "sizes", "areas", "problems", "details", "orphans", "stamp")


def _map(folder: Path, name: str) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    # Plain arrays over the mapping: indexing numpy's own memmap class takes several times as long.
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except ValueError:  # an array of length 0 cannot be mapped
        return np.asarray(np.load(path))


def _replace(part: Path, folder: Path) -> None:
    """Replace ``folder`` by ``part``."""
    if folder.exists():
        old = part.with_suffix(".old")
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    try:
        os.replace(part, folder)  # noqa: PTH105
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(part)  # another process has just written the same content
