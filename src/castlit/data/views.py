"""Two views of one image: constrained crops of image and mask, flips, and photometric changes."""

from typing import Literal, NamedTuple, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.crops import crop_resize, crop_resize_mask, sample_boxes
from castlit.crops.boxes import Constraint
from castlit.crops.coverage import Box
from castlit.crops.sizes import check_range
from castlit.data.photometric import PRESETS, Photometric
from castlit.nn.checks import InputError, require_choice, require_int, require_number

Region = Literal["own", "common"]


class Views(NamedTuple):
    """What one image becomes: images (size, size, 3) uint8 RGB, masks (size, size) uint8 {0, 1}."""

    query: NDArray[np.uint8]
    key: NDArray[np.uint8]
    query_mask: NDArray[np.uint8]
    key_mask: NDArray[np.uint8]


class ViewOptions(TypedDict, total=False):
    """The keyword arguments of :class:`TwoViews` besides ``size``, as data modules take them."""

    min_coverage: float | None
    scale: tuple[float, float]
    ratio: tuple[float, float]
    constraint: Constraint
    region: Region
    photometric: str | Photometric | None
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
        photometric: ``"moco_v1"``, ``"moco_v2"``, None, or any ``(image, rng) -> image`` on (H, W, 3) uint8 RGB.
        flip: Probability of a horizontal flip, drawn for each view.

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
        photometric: str | Photometric | None = "moco_v2",
        flip: float = 0.5,
    ) -> None:
        self.size = require_int("size", size, 1)
        self.min_coverage = require_number("min_coverage", 0.0 if min_coverage is None else min_coverage, 0, 1)
        self.scale = check_range("scale", scale, 1.0)
        self.ratio = check_range("ratio", ratio, None)
        require_choice("constraint", constraint, ("saliency", "pair"))
        require_choice("region", region, ("own", "common"))
        self.constraint: Constraint = constraint
        self.region: Region = region
        self.photometric = _photometric(photometric)
        self.flip = require_number("flip", flip, 0, 1)

    def __call__(self, image: NDArray[np.uint8], mask: NDArray[np.generic] | None, rng: np.random.Generator) -> Views:
        """Make both views.

        Args:
            image: (H, W, 3) uint8 RGB; not written to.
            mask: (H, W), nonzero is salient; None stands for an empty mask, whose crops are unconstrained.
            rng: Source of all random draws.

        Raises:
            InputError: Image and mask do not have one size.
        """
        salient = np.zeros(image.shape[:2], np.uint8) if mask is None else (mask != 0).view(np.uint8)
        if salient.shape != image.shape[:2]:
            raise InputError(f"the mask has shape {salient.shape} but the image {image.shape[:2]}")
        first, second = sample_boxes(
            salient, 2, self.min_coverage, self.scale, self.ratio, rng=rng, constraint=self.constraint
        )
        supervising = _within(salient, second) if self.region == "common" else salient
        query, query_mask = self._view(image, supervising, first, rng)
        key, key_mask = self._view(image, salient, second, rng)
        return Views(query, key, query_mask, key_mask)

    def _view(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], box: Box, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        size = (self.size, self.size)
        view, view_mask = crop_resize(image, box, size), crop_resize_mask(mask, box, size)
        if rng.random() < self.flip:
            view, view_mask = np.asarray(cv2.flip(view, 1), np.uint8), np.asarray(cv2.flip(view_mask, 1), np.uint8)
        if self.photometric is not None:
            view = self.photometric(view, rng)
        return view, view_mask


def _within(mask: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = box
    inside = np.zeros_like(mask)
    inside[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return inside


def _photometric(value: str | Photometric | None) -> Photometric | None:
    if value is None or (callable(value) and not isinstance(value, str)):
        return value
    return PRESETS[require_choice("photometric", value, PRESETS)]
