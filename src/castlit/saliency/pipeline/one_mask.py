"""From one image file to one mask file: what a process does for each image."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.folders import join
from castlit.data.io.images import decode_image, image_size, is_jpeg, read_bytes, refuse_cut_jpeg
from castlit.saliency.algorithms.registry import METHODS, shrink
from castlit.saliency.algorithms.superpixels import Image, Map
from castlit.saliency.pipeline.quality import Figures, covered, judge
from castlit.saliency.pipeline.signature import Signature, sign
from castlit.utils.atomic_write import FULL, write_whole

NOTHING = "nothing stands out in it"

_SHORTEST = 16  # pixels of a mask's shorter side below which rounding would change its shape


@dataclass(frozen=True)
class Recipe:
    """What is done to every image of a folder.

    Args:
        images: The folder.
        output: Where masks go.
        made: The signature's words for these settings.
        side: Longer side in pixels at which maps are made.
        mask_side: Longer side in pixels up to which masks have their image's size.
    """

    images: Path
    output: Path
    made: str
    side: int
    mask_side: int


class Outcome(NamedTuple):
    """What became of an image."""

    name: str
    """Its path below the images' folder."""
    figures: Figures | None = None
    """Of its mask; None where none was written."""
    failure: str = ""
    """Why it has no mask to train with; empty where it has."""
    stop: bool = False
    """Whether nothing can be written any more."""

    @classmethod
    def died(cls, name: str) -> "Outcome":
        """Of an image that killed the process that worked on it."""
        return cls(name, failure="the process that worked on it was killed; it may need more memory than there is")


class Opened(NamedTuple):
    """An image as far as it is needed."""

    image: Image
    """(h, w, 3) RGB upright, at the size at which its map is made."""
    size: tuple[int, int]
    """(H, W) of its mask."""


def mask_name(name: str) -> str:
    """The path of an image's mask below the masks' folder."""
    folder, _, file = name.rpartition("/")
    return join(folder, file.rpartition(".")[0] + ".png")


def make_mask(recipe: Recipe, method: str | Callable[[Image], Map], name: str) -> Outcome:
    """Read an image, make its map and write it; whatever goes wrong is told in the outcome."""
    opened = try_open(recipe, name)
    return opened if isinstance(opened, Outcome) else finish(recipe, method, name, opened)


def try_open(recipe: Recipe, name: str) -> Opened | Outcome:
    """Read an image, or say why that cannot be done."""
    try:
        return open_image(recipe.images / name, recipe.side, recipe.mask_side)
    except SampleError as error:
        return Outcome(name, failure=str(error).removeprefix(f"{recipe.images / name}: "))
    except MemoryError:
        return Outcome(name, failure="it does not fit into memory")


def finish(recipe: Recipe, method: str | Callable[[Image], Map], name: str, opened: Opened) -> Outcome:
    """Make the map of an image and write it, or say why that cannot be done."""
    try:
        predict = METHODS[method] if isinstance(method, str) else method
        small = to_levels(predict(opened.image))
        levels = resize(small, opened.size)
    except Exception as error:
        # One image that a method cannot take must not end the work on all others.
        return Outcome(name, failure=f"no map can be made of it ({type(error).__name__}: {error})")
    figures = judge(opened.image, small)._replace(area=covered(levels))
    target = recipe.output / mask_name(name)
    try:
        write_whole(target, sign(encode(levels), Signature(recipe.made, figures)))
    except OSError as error:
        return Outcome(name, failure=f"{target} cannot be written ({error.strerror})", stop=error.errno in FULL)
    return Outcome(name, figures, NOTHING if figures.area == 0 else "")


def open_image(path: Path, side: int, mask_side: int) -> Opened:
    """Read an image no larger than its map needs it: JPEGs are reduced while they are decoded.

    Raises:
        SampleError: It cannot be read.
    """
    data = read_bytes(path)
    if is_jpeg(data):
        refuse_cut_jpeg(data, str(path))
        size = image_size(data, str(path))
        reduction = next((r for r in (8, 4, 2) if max(size) >= r * side), 1)
        image = decode_image(data, str(path), reduction)
    else:
        image = decode_image(data, str(path))
        size = image.shape[0], image.shape[1]
    return Opened(shrink(image, side), mask_size(size, mask_side))


def mask_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(H, W) of the mask for an image: its own, its longer side at most ``longest``.

    Images that are long and narrow keep more of theirs, as a side of a pixel or two cannot have the right ratio to the
    other.
    """
    scale = min(1.0, max(longest / max(size), _SHORTEST / min(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def to_levels(values: Map) -> NDArray[np.uint8]:
    """A map (h, w) in [0, 1] as uint8.

    Raises:
        ValueError: It holds other numbers.
    """
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError("the map holds numbers outside [0, 1]")
    return np.asarray(np.rint(values * np.float32(255)), np.uint8)


def resize(levels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A map (h, w) as (H, W)."""
    if levels.shape == size:
        return levels
    grows = size[0] * size[1] > levels.size
    how = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return np.asarray(cv2.resize(levels, (size[1], size[0]), interpolation=how), np.uint8)


def encode(levels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG. Run lengths suit smooth maps: smaller than by the usual search, in the same time."""
    done, data = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])
    if not done:
        raise ValueError(f"a map of {levels.shape} cannot be encoded")
    return bytes(data.tobytes())
