"""The constrained crop as an albumentations transform."""

from typing import Any

import albumentations as A
import numpy as np
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

from castlit.crops.boxes import BoxSampler, Law
from castlit.crops.coverage import Box
from castlit.crops.resize import crop_resize, crop_resize_mask
from castlit.crops.shared_boxes import SharedBoxes
from castlit.utils.validation import InputError, require_int, require_number


class SaliencyCrop(A.DualTransform):  # type: ignore[misc]
    """Crop that covers at least ``min_coverage`` of the mask, resized to ``size``; for use in ``A.Compose``.

    Draws one box, see :func:`castlit.crops.sample_boxes`, from albumentations' own random state. Call it with
    ``image=`` and ``mask=`` (nonzero is salient); both are cropped alike, the image resized by area or bilinearly, the
    mask to the nearest pixel. Declare further images or masks with ``additional_targets``. Import this class before
    ``A.load`` or ``A.from_dict`` reads a pipeline that contains it.

    Args:
        size: (height, width) of the result in pixels, or one number for both.
        min_coverage: Smallest fraction of the salient pixels in the crop, in [0, 1].
        scale: Range of the crop's fraction of the image area, in (0, 1].
        ratio: Range of the crop's width / height.
        law: The boxes' distribution: that of ``RandomResizedCrop``, which this replaces, or ``"uniform"``.
        p: Probability of cropping at all.

    Raises:
        InputError: An argument is out of range; or, when called, an array of the image's size was not declared, which
            albumentations would return uncropped.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        size: tuple[int, int] | int = (224, 224),
        min_coverage: float = 0.2,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        law: Law = "resized_crop",
        p: float = 1.0,
    ) -> None:
        super().__init__(p=require_number("p", p, 0, 1))
        self.size = check_size(size)
        self._sampler = BoxSampler(min_coverage, scale, ratio, law=law)
        self.min_coverage, self.scale, self.ratio = self._sampler.min_coverage, self._sampler.scale, self._sampler.ratio
        self.law: Law = law
        self.shared: SharedBoxes | None = None
        """Draws the boxes in place of this transform's own random state; :class:`castlit.data.TwoPipelines` sets it."""

    @property
    def targets_as_params(self) -> list[str]:
        """The mask decides the box, so albumentations must refuse a call without one."""
        return ["mask"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the box from the mask.

        Raises:
            InputError: The mask is not of the image's size, or an undeclared array would pass uncropped.
        """
        height, width = params["shape"][:2]
        for key, value in data.items():
            if isinstance(value, np.ndarray) and value.shape[:2] == (height, width) and key not in self._key2func:
                raise InputError(f"{key!r} would pass uncropped: declare it with A.Compose(additional_targets=...)")
        mask = data["mask"]
        if mask.shape[:2] != (height, width):
            raise InputError(f"the mask is {mask.shape[1]} x {mask.shape[0]} but the image {width} x {height}")
        if mask.ndim == 3:
            mask = mask.any(axis=2)
        boxes = SharedBoxes(self.random_generator) if self.shared is None else self.shared
        return {"box": boxes.draw(self._sampler, mask)}

    def apply(self, img: NDArray[np.uint8], box: Box, **params: object) -> NDArray[np.uint8]:
        """Crop and resize an image."""
        return crop_resize(img, box, self.size)

    def apply_to_mask(self, mask: NDArray[np.uint8], box: Box, **params: object) -> NDArray[np.uint8]:
        """Crop and resize a mask."""
        return crop_resize_mask(mask, box, self.size)


def check_size(size: tuple[int, int] | int) -> tuple[int, int]:
    """Return (height, width), each at least 1 pixel, from a pair or one number.

    Raises:
        InputError: It is neither.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(pair) != 2:
        raise InputError(f"size must be a whole number or (height, width), got {size!r}")
    return require_int("size", pair[0], 1), require_int("size", pair[1], 1)
