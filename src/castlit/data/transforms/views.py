"""Two views of one image: constrained crops of image and mask, flips, and photometric changes."""

from collections import Counter
from typing import Literal, NamedTuple, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from castlit.crops import BoxSampler, crop_resize, crop_resize_mask
from castlit.crops.boxes import Constraint, Law
from castlit.crops.coverage import Box
from castlit.data.io.images import REDUCTIONS, EncodedImage
from castlit.data.transforms.photometric import PRESETS, ColourView, Photometric
from castlit.utils.validation import InputError, require_choice, require_int, require_number

Region = Literal["own", "common"]

LIMITS = ("scale", "ratio")
"""What gives way where no box can satisfy everything, in that order."""


class Views(NamedTuple):
    """What one image becomes: images (size, size, 3) uint8 RGB, masks (size, size) uint8 {0, 1}."""

    query: NDArray[np.uint8]
    key: NDArray[np.uint8]
    query_mask: NDArray[np.uint8]
    key_mask: NDArray[np.uint8]
    query_colours: NDArray[np.float32] | None = None
    """The colour draws that the query still waits for, where they are left to the device."""
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
        min_coverage: Smallest share of the salient pixels in each crop, in [0, 1]; None or 0 sets no constraint.
        scale: Range of a crop's share of the image area, in (0, 1].
        ratio: Range of a crop's width / height.
        constraint: ``"saliency"``, or ``"pair"``: the key's crop covers also part of the objects in the query's.
        region: ``"own"``: the query's mask is what its crop shows of the objects. ``"common"``: only what both crops
            show ("objects that are common across the crops", arXiv 2012.04630). The key's mask is its own in both.
        law: How often each allowed box is drawn, see :func:`castlit.crops.sample_boxes`: as ``RandomResizedCrop`` would
            (``"resized_crop"``), or all equally often (``"uniform"``).
        colours: ``"moco_v1"``, ``"moco_v2"``, None, or any ``(image, rng) -> image`` on (H, W, 3) uint8 RGB.
        flip: Probability of a horizontal flip, drawn for each view.
        defer: Only draw what the colours shall be, and leave them to the device; for ``ColourView`` and the presets.

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
        self.colours = _colours(colours)
        self.defer = defer and self.colours is not None
        if self.defer and not isinstance(self.colours, ColourView):
            raise InputError("photometric=device knows castlit's own colours only: moco_v1, moco_v2 or a ColourView")
        # Boxes that no limits could hold, by the limit that gave way; across all of a loader's processes.
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
            mask: (H, W), nonzero is salient; None stands for an empty mask, whose crops are unconstrained.
            rng: Source of all random draws.

        Raises:
            InputError: Image and mask do not have one size.
            SampleError: The image cannot be decoded.
        """
        salient = np.zeros(image.shape[:2], np.uint8) if mask is None else (mask != 0).view(np.uint8)
        if salient.shape != image.shape[:2]:
            raise InputError(f"the mask has shape {salient.shape} but the image {image.shape[:2]}")
        first, second = self._boxes(salient, rng)
        supervising = _within(salient, second) if self.region == "common" else salient
        pixels, shown = for_crops(image, [first, second], self.size)
        query = self._view(pixels, shown[0], supervising, first, rng)
        key = self._view(pixels, shown[1], salient, second, rng)
        return Views(query[0], key[0], query[1], key[1], query[2], key[2])

    def _boxes(self, mask: NDArray[np.uint8], rng: np.random.Generator) -> list[Box]:
        relaxed: Counter[str] = Counter()
        boxes = self.boxes(mask.view(np.bool_), 2, rng, relaxed)  # counted faster than bytes
        for limit, count in relaxed.items():
            self.relaxed[LIMITS.index(limit)] += count
        return boxes

    def _view(
        self,
        image: NDArray[np.uint8],
        shown: Box,
        mask: NDArray[np.uint8],
        box: Box,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32] | None]:
        size = (self.size, self.size)
        view, view_mask = crop_resize(image, shown, size), crop_resize_mask(mask, box, size)
        if rng.random() < self.flip:
            view, view_mask = np.asarray(cv2.flip(view, 1), np.uint8), np.asarray(cv2.flip(view_mask, 1), np.uint8)
        if self.defer and isinstance(self.colours, ColourView):
            return view, view_mask, self.colours.draw(rng)
        return view if self.colours is None else self.colours(view, rng), view_mask, None


def for_crops(
    image: NDArray[np.uint8] | EncodedImage, boxes: list[Box], size: int
) -> tuple[NDArray[np.uint8], list[Box]]:
    """Decode an image no larger than its crops need, and say where the boxes lie in that.

    A JPEG is decoded at a half, a quarter or an eighth where every box keeps at least ``size`` pixels each way.

    Args:
        image: (H, W, 3), or what decodes to that.
        boxes: In pixels of the whole image.
        size: Side of the views in pixels.

    Returns:
        The image, and the boxes in its pixels.

    Raises:
        SampleError: The image cannot be decoded.
    """
    if not isinstance(image, EncodedImage):
        return image, boxes
    smallest = min(min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes)
    reduction = max(r for r in REDUCTIONS if r == 1 or smallest >= r * size) if image.can_reduce else 1
    pixels = image.decode(reduction)
    if reduction == 1:
        return pixels, boxes
    height, width = pixels.shape[:2]
    return pixels, [_reduced(box, reduction, width, height) for box in boxes]


def _reduced(box: Box, reduction: int, width: int, height: int) -> Box:
    x1, y1, x2, y2 = (round(edge / reduction) for edge in box)
    return x1, y1, min(x2, width), min(y2, height)


def _within(mask: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = box
    inside = np.zeros_like(mask)
    inside[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return inside


def _colours(value: str | Photometric | None) -> Photometric | None:
    if value is None or (callable(value) and not isinstance(value, str)):
        return value
    return PRESETS[require_choice("colours", value, PRESETS)]
