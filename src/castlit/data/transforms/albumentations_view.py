"""Any albumentations pipeline as colour augmentation, with reproducible and independent random draws."""

from typing import Any

import numpy as np

from castlit.data.io.errors import ViewsError
from castlit.data.transforms.albumentations_nodes import is_transform, nodes_of, seed_nodes
from castlit.data.transforms.colour_ops import Image
from castlit.utils.validation import InputError


class AlbumentationsView:
    """Wraps an albumentations transform, or an ``A.Compose`` of them, for ``TwoViews(colours=...)``.

    Every transform of the tree gets a new random generator for each image, seeded from the sample's. Only the image is
    passed, not the mask, so the transform must not move pixels; those that do belong into
    :class:`castlit.data.TwoPipelines`.

    Args:
        transform: Called as ``transform(image=image)["image"]``; it must keep the image's shape.

    Raises:
        InputError: ``transform`` is no albumentations transform, or contains one that moves pixels.
    """

    def __init__(self, transform: Any) -> None:  # noqa: ANN401 - albumentations has no usable types
        self.transform = transform
        self.nodes = nodes_of(transform)
        for node in self.nodes:
            if not is_transform(node):
                raise InputError(f"colours must be made of albumentations transforms, got {type(node).__name__}")
            if hasattr(node, "apply") and "mask" in node.targets and type(node).__name__ != "NoOp":
                raise InputError(
                    f"{type(node).__name__} moves pixels, but not those of the mask: give it to TwoPipelines"
                )

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Return a randomly altered copy of ``image``, (H, W, 3) uint8 RGB.

        Raises:
            ViewsError: The transform changed the image's shape or type.
        """
        seed_nodes(self.nodes, rng)
        changed = np.asarray(self.transform(image=image)["image"])
        if changed.shape != image.shape or changed.dtype != np.uint8:
            raise ViewsError(f"the colour transform returned {changed.dtype} {changed.shape} for uint8 {image.shape}")
        return changed
