"""Photometric views of MoCo v1 and v2: colour jitter, grey, blur, on uint8 images.

The operations are torchvision's, in OpenCV. albumentations has much the same ones, but its random state would have to
be replaced for every sample, which costs more than the arithmetic on small images. ``castlit.data.adapter`` does that,
for pipelines of one's own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.nn.checks import InputError, require_number

Image = NDArray[np.uint8]
Photometric = Callable[[Image, np.random.Generator], Image]
"""The whole interface: (H, W, 3) uint8 RGB and a random source in, a new image of that shape out."""


@dataclass(frozen=True)
class ColourView:
    """Random colour jitter, grey and blur, with torchvision's definitions.

    The factors of brightness, contrast and saturation are uniform in [max(0, 1 - x), 1 + x], the hue shift is uniform
    in [-hue, hue] of a full turn, and the four are applied in random order (torchvision's ``ColorJitter``).

    Args:
        brightness: Half-width of the brightness factor's range.
        contrast: Half-width of the contrast factor's range.
        saturation: Half-width of the saturation factor's range.
        hue: Largest hue shift, as a share of a full turn, at most 0.5.
        jitter_p: Probability of the jitter.
        grey_p: Probability of turning grey.
        blur_p: Probability of the Gaussian blur.
        blur_sigma: Range of the blur's standard deviation in pixels, uniform.
        grey_first: Turn grey before the jitter (MoCo v1), not after (MoCo v2).

    Raises:
        InputError: A value is out of range.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    grey_first: bool = False

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            require_number(name, getattr(self, name), 0)
        require_number("hue", self.hue, 0, 0.5)
        for name in ("jitter_p", "grey_p", "blur_p"):
            require_number(name, getattr(self, name), 0, 1)
        if len(self.blur_sigma) != 2 or not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise InputError(f"blur_sigma must be two ascending numbers above 0, got {self.blur_sigma!r}")

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Return a randomly altered copy of ``image``.

        Args:
            image: (H, W, 3) uint8 RGB; not written to.
            rng: Source of the random draws.
        """
        # All draws are made at once and always, so that one option never shifts the draws of another.
        jitter, grey, blur, spread, *factors = rng.random(8).tolist()
        order = rng.permutation(4).tolist()
        if self.grey_first and grey < self.grey_p:
            image = to_grey(image)
        if jitter < self.jitter_p:
            image = self._jitter(image, factors, order)
        if not self.grey_first and grey < self.grey_p:
            image = to_grey(image)
        if blur < self.blur_p:
            low, high = self.blur_sigma
            image = gaussian_blur(image, low + spread * (high - low))
        return image

    def _jitter(self, image: Image, draws: list[float], order: list[int]) -> Image:
        for operation in order:
            draw = draws[operation]
            if operation == 0 and self.brightness:
                image = adjust_brightness(image, _factor(draw, self.brightness))
            elif operation == 1 and self.contrast:
                image = adjust_contrast(image, _factor(draw, self.contrast))
            elif operation == 2 and self.saturation:
                image = adjust_saturation(image, _factor(draw, self.saturation))
            elif operation == 3 and self.hue:
                image = adjust_hue(image, (2 * draw - 1) * self.hue)
        return image


PRESETS: dict[str, ColourView] = {
    "moco_v1": ColourView(hue=0.4, jitter_p=1.0, blur_p=0.0, grey_first=True),
    "moco_v2": ColourView(),
}
"""moco_v1: He et al., arXiv 1911.05722; moco_v2: Chen et al., arXiv 2003.04297; both as in their public code."""


def adjust_brightness(image: Image, factor: float) -> Image:
    """Multiply by ``factor``; values saturate at 255."""
    return _affine(image, factor, 0.0)


def adjust_contrast(image: Image, factor: float) -> Image:
    """Move every value away from the image's mean grey level by ``factor``; values saturate at 0 and 255."""
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _affine(image, factor, mean * (1 - factor))


def adjust_saturation(image: Image, factor: float) -> Image:
    """Move every pixel away from its own grey level by ``factor``; values saturate at 0 and 255."""
    return np.asarray(cv2.addWeighted(image, factor, to_grey(image), 1 - factor, 0.0), np.uint8)


def adjust_hue(image: Image, shift: float) -> Image:
    """Turn the hue by ``shift`` of a full turn, in [-0.5, 0.5]."""
    # The FULL variant spreads a turn over 256 levels (plain HSV: 180), so that uint8 arithmetic wraps as hue does.
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def to_grey(image: Image) -> Image:
    """The image's luma (ITU-R 601) in all three channels."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def gaussian_blur(image: Image, sigma: float) -> Image:
    """Gaussian blur of standard deviation ``sigma`` pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _factor(draw: float, spread: float) -> float:
    low = max(0.0, 1 - spread)
    return low + draw * (1 + spread - low)


def _affine(image: Image, factor: float, offset: float) -> Image:
    """Rounded and saturated ``factor * image + offset``; OpenCV's fastest way to it."""
    return np.asarray(cv2.addWeighted(image, factor, image, 0.0, offset), np.uint8)
