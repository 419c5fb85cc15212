"""What all makers of views share: two crops of an image with their masks, then flips and colour augmentation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from castlit.data.io.images import EncodedImage
from castlit.data.transforms.photometric import PRESETS, ColourView, Photometric
from castlit.utils.shared_numbers import SharedNumbers
from castlit.utils.validation import InputError, require_choice, require_int, require_number

LIMITS = ("scale", "ratio")
"""The limits that are relaxed if no box satisfies all of them, in that order."""

Crop = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""A view before its flip and colours, (size, size, 3) uint8 RGB, and its mask, (size, size) uint8 {0, 1}."""


class Views(NamedTuple):
    """The views of one image: images (size, size, 3) uint8 RGB, masks (size, size) uint8 {0, 1}."""

    query: NDArray[np.uint8]
    key: NDArray[np.uint8]
    query_mask: NDArray[np.uint8]
    key_mask: NDArray[np.uint8]
    query_colours: NDArray[np.float32] | None = None
    """Random parameters of the query's colour augmentation, if the device applies it; see ``ColourView.draw``."""
    key_colours: NDArray[np.float32] | None = None


class BothViews(ABC):
    """Makes the query and the key view of an image, each with its mask; a subclass implements ``crops``.

    Args:
        size: Side of the square views in pixels.
        colours: Colour augmentation: ``"moco_v1"``, ``"moco_v2"``, None, or any ``(image, rng) -> image`` on (H, W, 3)
            uint8 RGB.
        flip: Probability of a horizontal flip, drawn for each view.
        defer: Only draw the parameters of the colour augmentation; the device applies it. For ``ColourView`` and the
            presets.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(self, size: int, colours: str | Photometric | None, flip: float, defer: bool) -> None:
        self.size = require_int("size", size, 1)
        self.colours = _colour_augmentation(colours)
        self.defer = defer and self.colours is not None
        if self.defer and not isinstance(self.colours, ColourView):
            raise InputError("photometric=device needs colours=moco_v1, moco_v2 or a ColourView")
        # Not a shared tensor, which fails where there is no shared memory, also without workers.
        self._relaxed = SharedNumbers(len(LIMITS))
        self.flip = require_number("flip", flip, 0, 1)

    def __call__(
        self,
        image: NDArray[np.uint8] | EncodedImage,
        mask: NDArray[np.generic] | None,
        rng: np.random.Generator,
    ) -> Views:
        """Make both views.

        Args:
            image: (H, W, 3) uint8 RGB; not written to.
            mask: (H, W), nonzero is salient; None means an empty mask, for which crops are unconstrained.
            rng: Source of all random draws.

        Raises:
            InputError: Image and mask differ in size.
            SampleError: The image cannot be decoded.
        """
        salient = np.zeros(image.shape[:2], np.uint8) if mask is None else (mask != 0).view(np.uint8)
        if salient.shape != image.shape[:2]:
            raise InputError(f"the mask has shape {salient.shape} but the image {image.shape[:2]}")
        first, second = self.crops(image, salient, rng)
        query = self._finish(*first, rng)
        key = self._finish(*second, rng)
        return Views(query[0], key[0], query[1], key[1], query[2], key[2])

    @abstractmethod
    def crops(
        self, image: NDArray[np.uint8] | EncodedImage, mask: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[Crop, Crop]:
        """The query's and the key's pixels and mask, from an image and its mask of {0, 1} of the same size."""

    @property
    def relaxed(self) -> Tensor:
        """Number of boxes for which each limit was relaxed, (limits,) int64; shared by all processes of a loader."""
        return torch.from_numpy(self._relaxed.values)

    def count_relaxed(self, relaxed: Mapping[str, int]) -> None:
        """Add to the number of boxes for which each limit was relaxed."""
        for limit, count in relaxed.items():
            self._relaxed.values[LIMITS.index(limit)] += count

    def _finish(
        self, view: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32] | None]:
        if rng.random() < self.flip:
            view, mask = np.asarray(cv2.flip(view, 1), np.uint8), np.asarray(cv2.flip(mask, 1), np.uint8)
        if self.defer and isinstance(self.colours, ColourView):
            return view, mask, self.colours.draw(rng)
        return view if self.colours is None else self.colours(view, rng), mask, None


def _colour_augmentation(value: str | Photometric | None) -> Photometric | None:
    if value is None or (callable(value) and not isinstance(value, str)):
        return value
    return PRESETS[require_choice("colours", value, PRESETS)]
