"""Colour augmentation of MoCo v1 and v2: colour jitter, grey, blur, on uint8 images.

The parameters are drawn first and then applied: here to one image in a worker, or in
``castlit.data.transforms.device_photometric`` to a batch on the device. The operations are torchvision's, in OpenCV.
albumentations has similar ones, but its random state must be replaced for every sample, which costs more than the
arithmetic on small images. ``castlit.data.transforms.albumentations_view`` does that for other pipelines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from castlit.data.transforms.colour_ops import Image, blur, jitter, to_grey, to_rgb
from castlit.utils.validation import InputError, require_number

Photometric = Callable[[Image, np.random.Generator], Image]
"""Takes (H, W, 3) uint8 RGB and a random generator; returns an image of that shape. Must not modify its input."""

DRAWS = 10
"""Number of random parameters per image; the indices below say where each is."""
FACTORS = slice(0, 4)
"""Factors of brightness, contrast and saturation, and the hue shift in turns; 1, 1, 1 and 0 without jitter."""
ORDER = slice(4, 8)
"""The numbers 0 to 3 of these four operations, in the order in which they are applied."""
GREY = 8
"""1 for grey, else 0."""
SIGMA = 9
"""Standard deviation of the blur in pixels; 0 for none."""

_ORDERS = tuple(permutations(range(4)))


@dataclass(frozen=True)
class ColourView:
    """Random colour jitter, grey and blur, with torchvision's definitions.

    The factors of brightness, contrast and saturation are uniform in [max(0, 1 - x), 1 + x], the hue shift is uniform
    in [-hue, hue] of a full turn, and the four are applied in random order (torchvision's ``ColorJitter``).

    Args:
        brightness: Half-width of the brightness factor's range.
        contrast: Half-width of the contrast factor's range.
        saturation: Half-width of the saturation factor's range.
        hue: Largest hue shift, as a fraction of a full turn, at most 0.5.
        jitter_p: Probability of the jitter.
        grey_p: Probability of turning grey.
        blur_p: Probability of the Gaussian blur, which is Pillow's.
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
        """Return a randomly augmented copy of ``image``, (H, W, 3) uint8 RGB, with draws from ``rng``."""
        return self.apply(image, self.draw(rng))

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw the parameters of one image.

        Args:
            rng: Random generator. The number of draws from it does not depend on the options, so that changing one
                option does not change other draws.

        Returns:
            (DRAWS,), with the layout of :data:`FACTORS`, :data:`ORDER`, :data:`GREY` and :data:`SIGMA`.
        """
        jittered, grey, blurred, order, blur, *uniforms, turn = rng.random(9).tolist()
        factors = (1.0, 1.0, 1.0, 0.0)
        if jittered < self.jitter_p:
            limits = (self.brightness, self.contrast, self.saturation)
            factors = (*map(_factor, uniforms, limits), (2 * turn - 1) * self.hue)
        low, high = self.blur_sigma
        sigma = low + blur * (high - low) if blurred < self.blur_p else 0.0
        return np.array((*factors, *_ORDERS[int(order * len(_ORDERS))], grey < self.grey_p, sigma), np.float32)

    def apply(self, image: Image, draw: NDArray[np.float32]) -> Image:
        """Apply drawn parameters to an image.

        Args:
            image: (H, W, 3) uint8 RGB; not modified.
            draw: (DRAWS,), from :meth:`draw`.

        Returns:
            An image of that shape; ``image`` itself if nothing changes.
        """
        values = draw.tolist()
        grey, sigma = values[GREY], values[SIGMA]
        # A grey image has one channel until the end.
        if grey and self.grey_first:
            image = to_grey(image)
        image = jitter(image, values[FACTORS], [int(operation) for operation in values[ORDER]])
        if grey and not self.grey_first:
            image = to_grey(image)
        if sigma:
            image = blur(image, sigma)
        return to_rgb(image) if grey else image


PRESETS: dict[str, ColourView] = {
    "moco_v1": ColourView(hue=0.4, jitter_p=1.0, blur_p=0.0, grey_first=True),
    "moco_v2": ColourView(),
}
"""moco_v1: He et al., arXiv 1911.05722; moco_v2: Chen et al., arXiv 2003.04297; both as in their public code."""


def _factor(uniform: float, half_width: float) -> float:
    low = max(0.0, 1 - half_width)
    return low + uniform * (1 + half_width - low)
