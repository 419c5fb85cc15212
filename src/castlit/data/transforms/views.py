"""Two views of one image: constrained crops of image and mask, flips, and colour augmentation."""

from collections import Counter
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from castlit.crops import BoxSampler, crop_resize, crop_resize_mask
from castlit.crops.boxes import Constraint, Law
from castlit.crops.coverage import Box
from castlit.data.io.images import EncodedImage
from castlit.data.transforms.both_views import LIMITS, BothViews, Crop, Views
from castlit.data.transforms.decode_for_crops import decode_for_crops
from castlit.data.transforms.photometric import Photometric
from castlit.utils.validation import require_choice, require_number

__all__ = ["LIMITS", "Region", "TwoViews", "ViewOptions", "Views"]

Region = Literal["own", "common"]


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


class TwoViews(BothViews):
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
        super().__init__(size, colours, flip, defer)
        self.min_coverage = require_number("min_coverage", 0.0 if min_coverage is None else min_coverage, 0, 1)
        require_choice("region", region, ("own", "common"))
        self.region: Region = region
        self.boxes = BoxSampler(self.min_coverage, scale, ratio, constraint, law)

    def crops(
        self, image: NDArray[np.uint8] | EncodedImage, mask: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[Crop, Crop]:
        """The query's and the key's crop, decoded at no higher resolution than they need."""
        relaxed: Counter[str] = Counter()
        # Booleans are counted faster than bytes.
        first, second = self.boxes(mask.view(np.bool_), 2, rng, relaxed)
        self.count_relaxed(relaxed)
        query_mask = _within(mask, second) if self.region == "common" else mask
        pixels, (query_box, key_box) = decode_for_crops(image, [first, second], self.size)
        size = (self.size, self.size)
        return (
            (crop_resize(pixels, query_box, size), crop_resize_mask(query_mask, first, size)),
            (crop_resize(pixels, key_box, size), crop_resize_mask(mask, second, size)),
        )


def _within(mask: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The mask, set to 0 outside of a box."""
    x1, y1, x2, y2 = box
    inside = np.zeros_like(mask)
    inside[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return inside
