"""Two views of one image: constrained crops of image and mask, flips, and colour augmentation."""

from collections import Counter
from typing import Literal, NamedTuple, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from castlit.crops import BoxSampler, crop_resize, crop_resize_mask
from castlit.crops.boxes import Constraint, Law
from castlit.crops.coverage import Box
from castlit.data.io.images import EncodedImage
from castlit.data.transforms.decode_for_crops import decode_for_crops
from castlit.data.transforms.photometric import PRESETS, ColourView, Photometric
from castlit.utils.validation import InputError, require_choice, require_int, require_number

Region = Literal["own", "common"]

LIMITS = ("scale", "ratio")
"""The limits that are relaxed if no box satisfies all of them, in that order."""


class Views(NamedTuple):
    """The views of one image: images (size, size, 3) uint8 RGB, masks (size, size) uint8 {0, 1}."""

    query: NDArray[np.uint8]
    key: NDArray[np.uint8]
    query_mask: NDArray[np.uint8]
    key_mask: NDArray[np.uint8]
    query_colours: NDArray[np.float32] | None = None
    """Random parameters of the query's colour augmentation, if the device applies it; see ``ColourView.draw``."""
    key_colours: NDArray[np.float32] | None = None


class ViewOptions(TypedDict, total=False):
    """The keyword arguments of :class:`TwoViews` besides ``size``, as data modules take them."""

    min_coverage: float | None
    scale: tuple[float, float]
    ratio: tuple[float, float]
    constraint: Constraint
    region: Region
    law: Law
    colours: str | Photometric | None
    flip: float


class TwoViews:
    """Makes the query and the key view of an image, each with its mask.

    Args:
        size: Side of the square views in pixels.
        min_coverage: Smallest fraction of the salient pixels in each crop, in [0, 1]; None or 0 sets no constraint.
        scale: Range of a crop's fraction of the image area, in (0, 1].
        ratio: Range of a crop's width / height.
        constraint: ``"saliency"``; or ``"pair"``: the key's crop also covers part of the objects in the query's crop.
        region: ``"own"``: the query's mask has the objects in the query's crop. ``"common"``: only what both crops show
            ("objects that are common across the crops", arXiv 2012.04630). The key's mask does not depend on it.
        law: Distribution of the boxes over the valid ones, see :func:`castlit.crops.sample_boxes`: that of
            ``RandomResizedCrop`` (``"resized_crop"``), or ``"uniform"``.
        colours: Colour augmentation: ``"moco_v1"``, ``"moco_v2"``, None, or any ``(image, rng) -> image`` on (H, W, 3)
            uint8 RGB.
        flip: Probability of a horizontal flip, drawn for each view.
        defer: Only draw the parameters of the colour augmentation; the device applies it. For ``ColourView`` and the
            presets.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        min_coverage: float | None = 0.2,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        constraint: Constraint = "saliency",
        region: Region = "own",
        law: Law = "resized_crop",
        colours: str | Photometric | None = "moco_v2",
        flip: float = 0.5,
        defer: bool = False,
    ) -> None:
        self.size = require_int("size", size, 1)
        self.min_coverage = require_number("min_coverage", 0.0 if min_coverage is None else min_coverage, 0, 1)
        require_choice("region", region, ("own", "common"))
        self.region: Region = region
        self.boxes = BoxSampler(self.min_coverage, scale, ratio, constraint, law)
        self.colours = _colour_augmentation(colours)
        self.defer = defer and self.colours is not None
        if self.defer and not isinstance(self.colours, ColourView):
            raise InputError("photometric=device needs colours=moco_v1, moco_v2 or a ColourView")
        # Number of boxes for which each limit was relaxed; shared by all processes of a loader.
        self.relaxed = torch.zeros(len(LIMITS), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
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
        first, second = self._boxes(salient, rng)
        query_salient = _within(salient, second) if self.region == "common" else salient
        pixels, pixel_boxes = decode_for_crops(image, [first, second], self.size)
        query = self._view(pixels, pixel_boxes[0], query_salient, first, rng)
        key = self._view(pixels, pixel_boxes[1], salient, second, rng)
        return Views(query[0], key[0], query[1], key[1], query[2], key[2])

    def _boxes(self, mask: NDArray[np.uint8], rng: np.random.Generator) -> list[Box]:
        relaxed: Counter[str] = Counter()
        boxes = self.boxes(mask.view(np.bool_), 2, rng, relaxed)  # booleans are counted faster than bytes
        for limit, count in relaxed.items():
            self.relaxed[LIMITS.index(limit)] += count
        return boxes

    def _view(
        self,
        image: NDArray[np.uint8],
        image_box: Box,
        mask: NDArray[np.uint8],
        mask_box: Box,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32] | None]:
        size = (self.size, self.size)
        view, view_mask = crop_resize(image, image_box, size), crop_resize_mask(mask, mask_box, size)
        if rng.random() < self.flip:
            view, view_mask = np.asarray(cv2.flip(view, 1), np.uint8), np.asarray(cv2.flip(view_mask, 1), np.uint8)
        if self.defer and isinstance(self.colours, ColourView):
            return view, view_mask, self.colours.draw(rng)
        return view if self.colours is None else self.colours(view, rng), view_mask, None


def _within(mask: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The mask, set to 0 outside of a box."""
    x1, y1, x2, y2 = box
    inside = np.zeros_like(mask)
    inside[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return inside


def _colour_augmentation(value: str | Photometric | None) -> Photometric | None:
    if value is None or (callable(value) and not isinstance(value, str)):
        return value
    return PRESETS[require_choice("colours", value, PRESETS)]
