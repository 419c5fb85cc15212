"""From one image file to one mask file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.folders import join
from castlit.data.io.images import EncodedImage, read_bytes
from castlit.data.io.images import open_image as open_encoded
from castlit.saliency.algorithms.registry import METHODS, shrink
from castlit.saliency.algorithms.superpixels import Image, Map
from castlit.saliency.pipeline.quality import Quality, covered_fraction, measure_quality
from castlit.saliency.pipeline.signature import Signature, sign
from castlit.utils.atomic_write import ALONE, FULL, write_atomic

NOTHING = "nothing stands out in it"

_SHORTEST = 16  # pixels of a mask's shorter side; rounding smaller ones would change the aspect ratio


@dataclass(frozen=True)
class Recipe:
    """What is done with every image of a folder.

    Args:
        images: The folder.
        output: The masks' folder.
        made: The settings, as text for the signature.
        side: Longer side in pixels at which maps are made.
        mask_side: Maximum of a mask's longer side in pixels; smaller masks have their image's size.
    """

    images: Path
    output: Path
    made: str
    side: int
    mask_side: int


class Outcome(NamedTuple):
    """The result for one image."""

    name: str
    """Its path below the images' folder."""
    quality: Quality | None = None
    """Of its mask; None if none was written."""
    failure: str = ""
    """Why it has no mask to train with; empty if it has one."""
    stop: bool = False
    """Whether no further mask can be written."""

    @classmethod
    def died(cls, name: str) -> "Outcome":
        """The result for an image whose process was killed."""
        return cls(name, failure="the process that worked on it was killed; it may need more memory than there is")


class Opened(NamedTuple):
    """A decoded image."""

    image: Image
    """(h, w, 3) RGB, upright, at the size at which its map is made."""
    size: tuple[int, int]
    """(H, W) of its mask."""
    file_bytes: int
    """Size of its file."""


def mask_name(name: str) -> str:
    """The path of an image's mask below the masks' folder."""
    folder, _, file = name.rpartition("/")
    return join(folder, file.rpartition(".")[0] + ".png")


def make_mask(recipe: Recipe, method: str | Callable[[Image], Map], name: str) -> Outcome:
    """Read an image, make its map and write it; errors are returned in the outcome."""
    opened = try_open(recipe, name)
    return opened if isinstance(opened, Outcome) else finish(recipe, method, name, opened)


def try_open(recipe: Recipe, name: str) -> Opened | Outcome:
    """Read an image; errors are returned as the outcome."""
    try:
        return open_image(recipe.images / name, recipe.side, recipe.mask_side)
    except SampleError as error:
        return Outcome(name, failure=str(error).removeprefix(f"{recipe.images / name}: "))
    except MemoryError:
        return Outcome(name, failure="it does not fit into memory")


def finish(recipe: Recipe, method: str | Callable[[Image], Map], name: str, opened: Opened) -> Outcome:
    """Make the map of an image and write it; errors are returned in the outcome."""
    try:
        predict = METHODS[method] if isinstance(method, str) else method
        small = to_levels(predict(opened.image))
        levels = resize(small, opened.size)
    except Exception as error:
        # One bad image must not end the run.
        return Outcome(name, failure=f"no map can be made of it ({type(error).__name__}: {error})")
    quality = measure_quality(opened.image, small)._replace(area=covered_fraction(levels))
    target = recipe.output / mask_name(name)
    signature = Signature(recipe.made, quality, opened.file_bytes)
    try:
        write_atomic(target, sign(encode(levels), signature), writer=ALONE)
    except OSError as error:
        return Outcome(name, failure=f"{target} cannot be written ({error.strerror})", stop=error.errno in FULL)
    return Outcome(name, quality, NOTHING if quality.area == 0 else "")


def open_image(path: Path, side: int, mask_side: int) -> Opened:
    """Read an image at the size that its map needs; JPEGs are reduced while they are decoded.

    Raises:
        SampleError: It cannot be read.
    """
    data = read_bytes(path)
    found = open_encoded(data, str(path))
    size = found.shape[0], found.shape[1]
    if isinstance(found, EncodedImage):
        reduction = next((r for r in (8, 4, 2) if max(size) >= r * side), 1) if found.can_reduce else 1
        found = found.decode(reduction)
    return Opened(shrink(found, side), mask_size(size, mask_side), len(data))


def mask_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(H, W) of an image's mask: the image's size, with a longer side of at most ``longest``.

    Long and narrow images may exceed it: a shorter side of a few pixels would change the aspect ratio.
    """
    scale = min(1.0, max(longest / max(size), _SHORTEST / min(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def to_levels(values: Map) -> NDArray[np.uint8]:
    """A map (h, w) in [0, 1] as uint8.

    Raises:
        ValueError: A value is not in [0, 1].
    """
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError("the map has values outside [0, 1]")
    return np.asarray(np.rint(values * np.float32(255)), np.uint8)


def resize(levels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a map (h, w) to (H, W)."""
    if levels.shape == size:
        return levels
    grows = size[0] * size[1] > levels.size
    how = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return np.asarray(cv2.resize(levels, (size[1], size[0]), interpolation=how), np.uint8)


def encode(levels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG. Run-length coding makes smooth maps smaller than the default, in the same time."""
    done, data = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])
    if not done:
        raise ValueError(f"a map of {levels.shape} cannot be encoded")
    return bytes(data.tobytes())
