"""From an image to its object map, by an encoder."""

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from castlit.saliency.algorithms.refine import finish
from castlit.saliency.algorithms.superpixels import Image, Map
from castlit.saliency.spectral.discovery import discover
from castlit.saliency.spectral.features import CellFeatures
from castlit.saliency.spectral.settings import SpectralSettings


class SpectralPredictor:
    """Computes an image's object map from an encoder's features. Can be pickled for other processes.

    Args:
        network: Normalised images (N, 3, H, W) to a feature map; it is put into evaluation mode.
        settings: Method and parameters.

    Raises:
        InputError: The network has no such layer, or does not take images of that size.
    """

    def __init__(self, network: nn.Module, settings: SpectralSettings) -> None:
        self.network, self.settings = network.eval().requires_grad_(False), settings
        self.features = CellFeatures(network, settings.layer, settings.size)

    def __call__(self, image: Image) -> Map:
        """Compute the map (H, W), in [0, 1], of an upright image (H, W, 3) RGB.

        It is aligned to the image's edges and sharpened. An image of a single colour gives 0.
        """
        if (image == image[0, 0]).all():
            return np.zeros(image.shape[:2], np.float32)
        return finish(image, object_map(self.features(image), image, self.settings))


def object_map(features: NDArray[np.floating], image: Image, settings: SpectralSettings) -> Map:
    """The object in an image's features (C, h, w), enlarged to the image (H, W, 3): (H, W) in [0, 1]."""
    values = discover(features, image, settings)
    height, width = image.shape[:2]
    large = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large.clip(0, 1), np.float32)
