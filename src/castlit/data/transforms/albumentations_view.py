"""Any albumentations pipeline as colour augmentation, with reproducible and independent random draws."""

import random
from typing import Any

import numpy as np

from castlit.data.io.errors import SampleError
from castlit.data.transforms.colour_ops import Image
from castlit.utils.validation import InputError


class AlbumentationsView:
    """Wraps an albumentations transform, or an ``A.Compose`` of them, for ``TwoViews(colours=...)``.

    albumentations 2.0.8 repeats its draws in every worker, and ``Compose(seed=...)`` gives all its transforms one seed,
    so that their draws are equal. Here every transform of the tree gets a new random generator for each image, seeded
    from the sample's. Only the image is passed, not the mask, so the transform must not move pixels. ``TwoViews`` makes
    flips and crops.

    Args:
        transform: Called as ``transform(image=image)["image"]``; it must keep the image's shape.

    Raises:
        InputError: ``transform`` is no albumentations transform, or contains one that moves pixels.
    """

    def __init__(self, transform: Any) -> None:  # noqa: ANN401 - albumentations has no usable types
        self.transform = transform
        self.nodes = _nodes(transform)
        for node in self.nodes:
            if not callable(getattr(node, "set_random_seed", None)):
                raise InputError(f"colours must be made of albumentations transforms, got {type(node).__name__}")
            if hasattr(node, "apply") and "mask" in node.targets and type(node).__name__ != "NoOp":
                raise InputError(f"{type(node).__name__} moves pixels, but not those of the mask: leave it out")

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Return a randomly altered copy of ``image``, (H, W, 3) uint8 RGB.

        Raises:
            SampleError: The transform changed the image's shape or type.
        """
        for node, seed in zip(self.nodes, rng.integers(0, 2**63, len(self.nodes)).tolist(), strict=True):
            node.random_generator = np.random.default_rng(seed)
            node.py_random = random.Random(seed)
        changed = np.asarray(self.transform(image=image)["image"])
        if changed.shape != image.shape or changed.dtype != np.uint8:
            raise SampleError(f"the colour transform returned {changed.dtype} {changed.shape} for uint8 {image.shape}")
        return changed


def _nodes(transform: Any) -> list[Any]:  # noqa: ANN401
    """The transform and its descendants. Only containers have any: ColorJitter also has a list named ``transforms``."""
    inner = getattr(transform, "transforms", None)
    if not isinstance(inner, (list, tuple)) or not hasattr(transform, "processors") or hasattr(transform, "apply"):
        return [transform]
    return [transform, *(node for child in inner for node in _nodes(child))]
