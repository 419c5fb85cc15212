"""What there is to do: the images of a folder, and which of them have their masks already."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from castlit.data.io.folders import IMAGE_SUFFIXES, by_stem, join, walk
from castlit.saliency.pipeline.one_mask import mask_name
from castlit.saliency.pipeline.signature import Signature, read_signature
from castlit.utils.atomic_write import part_of
from castlit.utils.validation import InputError

_THREADS = 8  # slow disks answer many at once


class Share(NamedTuple):
    """Which part of the images a run makes masks for: number ``this``, from 1, of ``of``."""

    this: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Share":
        """Read ``"3/16"``; None is everything.

        Raises:
            InputError: It is written otherwise, or there is no such share.
        """
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d+)/(\d+)", str(text))
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"shard must be one of 1/16, 2/16 ... 16/16, or null; got {text!r}")
        return cls(int(match[1]), int(match[2]))

    @property
    def words(self) -> str:
        """As the user writes it."""
        return f"{self.this}/{self.of}"

    @property
    def suffix(self) -> str:
        """For the names of a share's own files; empty where it is everything."""
        return "" if self.of == 1 else f"_{self.this}_of_{self.of}"


class State(Enum):
    """How things are with an image's mask."""

    TO_MAKE = 0
    FINISHED = 1
    CLASHES = 2
    """Another image of the same name but for the suffix would have the same mask."""
    FOREIGN = 3
    """A mask is there that other settings made, or somebody else."""


class Seen(NamedTuple):
    """An image, and how things are with its mask."""

    name: str
    """Its path below the images' folder."""
    state: State
    detail: str = ""
    """The other images where it clashes, or how the mask was made where it is foreign."""
    signature: Signature | None = None
    """Of a finished mask."""


def refuse_nested(images: Path, output: Path) -> None:
    """Masks must not be taken for images, nor images for masks.

    Raises:
        InputError: One folder is the other or lies inside it; or ``output`` is a file.
    """
    one, other = images.resolve(), output.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise InputError(
            f"output={output} and images={images} are the same folder or one inside the other, and masks would be "
            "taken for images: give a folder of their own to the masks"
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"output={output} is a file: give a folder")


def survey(images: Path, output: Path, made: str, share: Share) -> Iterator[Seen]:
    """Look at all images of a share, in a fixed order, and at the masks that are there; a folder's at a time.

    Args:
        images: Searched as the data module does.
        output: Folder of masks.
        made: The signature's words of the masks that count as finished.
        share: Images are dealt out one by one.

    Raises:
        OSError: A folder cannot be read.
    """
    number = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for folder in walk(images):
            names: list[tuple[str, list[str]]] = []
            for same in by_stem(folder.files, IMAGE_SUFFIXES).values():
                for name in same:
                    if number % share.of == share.this - 1:
                        names.append((name, [other for other in same if other != name]))
                    number += 1
            there = _files(output / folder.path) if names else set()

            def look(
                item: tuple[str, list[str]], path: str = folder.path, there: frozenset[str] = frozenset(there)
            ) -> Seen:
                return _look(output, made, join(path, item[0]), item[1], there)

            yield from pool.map(look, names)


def _look(output: Path, made: str, name: str, others: list[str], there: frozenset[str]) -> Seen:
    if others:
        return Seen(name, State.CLASHES, ", ".join(others))
    path = output / mask_name(name)
    part = part_of(path)
    if part.name in there:  # a run was killed while it wrote
        with suppress(OSError):
            part.unlink()
    if path.name not in there:
        return Seen(name, State.TO_MAKE)
    try:
        signature = read_signature(path)
    except FileNotFoundError:
        return Seen(name, State.TO_MAKE)
    if signature is None:
        return Seen(name, State.FOREIGN, "not made by castlit.make_masks")
    if signature.made != made:
        return Seen(name, State.FOREIGN, f"made with {signature.made}")
    return Seen(name, State.FINISHED, signature=signature)


def _files(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names alone, in one call
    except FileNotFoundError:
        return set()
