"""What ``attention.key`` does: how the key that the query is scored against is embedded."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from castlit.nn.mask_grid import mask_weights
from castlit.utils.validation import InputError


class MaskedImage:
    """The embedding of the key image under its mask: one more forward pass (CAST, CVPR 2021)."""

    def check(self, method: nn.Module) -> None:
        """Raise an :class:`InputError` if the method cannot embed such keys; every method can embed a masked image."""

    def region(self, mask: Tensor) -> Tensor:
        """The part of the key that the score sees, (N, 1, H, W), given the mask of its objects."""
        return mask

    def step(self, method: nn.Module, query: Tensor, key: Tensor, region: Tensor) -> tuple[Any, Tensor]:
        """Run a training step's forward passes.

        Args:
            method: As in :mod:`castlit.methods`.
            query: One view of each image, (N, 3, H, W).
            key: The other.
            region: From :meth:`region`.

        Returns:
            The method's output, and z_km, the embedding (N, dim) of the key's region, with no graph.
        """
        return method(query, key), self.embed(method, key, region)

    def embed(self, method: nn.Module, images: Tensor, region: Tensor) -> Tensor:
        """Return the embedding (N, dim) of the region of images (N, 3, H, W), with no graph."""
        embedding: Tensor = method.target(apply_mask(images, region))  # type: ignore[operator]
        return embedding


class MaskedFeatures(MaskedImage):
    """The key's own feature map, which the step computes anyway, pooled under the mask: no further pass."""

    def check(self, method: nn.Module) -> None:
        """Raise an :class:`InputError` if the method does not offer masked features."""
        if "key_mask" not in inspect.signature(method.forward).parameters or not hasattr(method, "masked_target"):
            raise InputError(
                f"{type(method).__name__} gives no masked features (forward takes no key_mask, or there is no "
                "masked_target): use attention.key=masked_image"
            )

    def step(self, method: nn.Module, query: Tensor, key: Tensor, region: Tensor) -> tuple[Any, Tensor]:
        """As in :meth:`MaskedImage.step`."""
        output = method(query, key, region)
        return output, output.masked_key

    def embed(self, method: nn.Module, images: Tensor, region: Tensor) -> Tensor:
        """As in :meth:`MaskedImage.embed`."""
        embedding: Tensor = method.masked_target(images, region)  # type: ignore[operator]
        return embedding


class Plain(MaskedFeatures):
    """The whole key with its background, for comparison: nothing in this score asks for the object."""

    def region(self, mask: Tensor) -> Tensor:
        """The whole key."""
        return torch.ones_like(mask)


KEYS: dict[str, MaskedImage] = {
    "masked_image": MaskedImage(),
    "masked_features": MaskedFeatures(),
    "plain": Plain(),
}
"""The choices of ``attention.key``."""


def apply_mask(images: Tensor, mask: Tensor) -> Tensor:
    """Set everything but the salient objects to zero, which is the data set's mean colour.

    Args:
        images: (N, 3, H, W), normalised.
        mask: (N, 1, H, W). Floats in [0, 1] weight the pixels; any other type keeps those where it is nonzero.
    """
    return images * mask_weights(mask, images.dtype)
