"""Scan a folder's images and the masks that exist."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from castlit.data.io.folders import IMAGE_SUFFIXES, by_stem, join, refuse_nested, walk
from castlit.data.io.images import file_state
from castlit.saliency.pipeline.one_mask import mask_name
from castlit.saliency.pipeline.shard import Shard
from castlit.saliency.pipeline.signature import Signature, read_signature
from castlit.utils.atomic_write import ALONE, part_of
from castlit.utils.validation import InputError

_THREADS = 8  # slow disks serve parallel requests


class MaskState(Enum):
    """The state of an image's mask."""

    TO_MAKE = 0
    FINISHED = 1
    CLASHES = 2
    """Another image, with the same name but another suffix, would have the same mask."""
    FOREIGN = 3
    """The mask was made with other settings, by another program, or of another image of the same name."""


class ScannedImage(NamedTuple):
    """An image and the state of its mask."""

    name: str
    """Its path below the images' folder."""
    state: MaskState
    detail: str = ""
    """The other images if it clashes, or how the mask was made if it is foreign."""
    signature: Signature | None = None
    """Of a finished mask."""


def check_output(images: Path, output: Path) -> None:
    """Check that masks cannot be read as images, nor images as masks.

    Raises:
        InputError: One folder is or contains the other, or ``output`` is a file.
    """
    refuse_nested("output", output, "images", images)
    if output.exists() and not output.is_dir():
        raise InputError(f"output={output} is a file: give a folder")


def scan(images: Path, output: Path, made: str, shard: Shard) -> Iterator[ScannedImage]:
    """Scan the images of a shard and their masks, in a fixed order, one folder at a time.

    Args:
        images: Searched as the data module does.
        output: Folder of masks.
        made: The signature's text of finished masks.
        shard: Images are assigned to shards in turn.

    Raises:
        OSError: A folder cannot be read.
    """
    number = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for folder in walk(images):
            names: list[tuple[str, list[str]]] = []
            for same in by_stem(folder.files, IMAGE_SUFFIXES).values():
                for name in same:
                    if number % shard.total == shard.number - 1:
                        names.append((name, [other for other in same if other != name]))
                    number += 1
            there = _files(output / folder.path) if names else set()

            def look(
                item: tuple[str, list[str]], path: str = folder.path, there: frozenset[str] = frozenset(there)
            ) -> ScannedImage:
                return _look(images, output, made, join(path, item[0]), item[1], there)

            yield from pool.map(look, names)


def _look(images: Path, output: Path, made: str, name: str, others: list[str], there: frozenset[str]) -> ScannedImage:
    if others:
        return ScannedImage(name, MaskState.CLASHES, ", ".join(others))
    path = output / mask_name(name)
    part = part_of(path, ALONE)
    if part.name in there:  # left by a killed run
        with suppress(OSError):
            part.unlink()
    if path.name not in there:
        return ScannedImage(name, MaskState.TO_MAKE)
    try:
        signature = read_signature(path)
    except FileNotFoundError:
        return ScannedImage(name, MaskState.TO_MAKE)
    if signature is None:
        return ScannedImage(name, MaskState.FOREIGN, "not made by castlit.make_masks")
    if signature.made != made:
        return ScannedImage(name, MaskState.FOREIGN, f"made with {signature.made}")
    if signature.image_bytes not in (None, file_state(str(images / name))[0]):
        return ScannedImage(name, MaskState.FOREIGN, "made of another image of this name")
    return ScannedImage(name, MaskState.FINISHED, signature=signature)


def _files(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names alone, in one call
    except FileNotFoundError:
        return set()
