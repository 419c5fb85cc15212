"""Apply a trained saliency network to an image of any size."""

import cv2
import numpy as np
import torch
from torch import nn

from castlit.data.datamodules.datasets import normalise
from castlit.saliency.algorithms import fusion
from castlit.saliency.algorithms.refine import crf, sharpen
from castlit.saliency.algorithms.superpixels import Image, Map


class Predictor:
    """Computes an image's saliency map. Can be pickled for other processes.

    Args:
        network: Maps normalised images (N, 3, S, S) to logits (N, 1, s, s).
        size: S: images are resized to it for the network.
        refine: Align the map to the image's edges by a CRF, which takes more time than the network.
        fused: Weight, in [0, 1], of the map of :func:`castlit.saliency.algorithms.fusion.fused` beside the network's.
            Above 0 the result is sharpened, as ``fused`` is: the CRF darkens it. This is castlit's, not the paper's.
    """

    def __init__(self, network: nn.Module, size: int, refine: bool = True, fused: float = 0.0) -> None:
        self.network, self.size = network.eval().requires_grad_(False), size
        self.refine, self.fused = refine, fused

    def __call__(self, image: Image) -> Map:
        """Compute the map (H, W), in [0, 1], of an upright image (H, W, 3) RGB.

        An image of a single colour gives 0.
        """
        height, width = image.shape[:2]
        if (image == image[0, 0]).all():
            return np.zeros((height, width), np.float32)
        how = cv2.INTER_AREA if max(height, width) > self.size else cv2.INTER_LINEAR
        square = np.ascontiguousarray(cv2.resize(image, (self.size, self.size), interpolation=how))
        device = next(self.network.parameters()).device
        levels = torch.from_numpy(square).to(device).permute(2, 0, 1)[None]
        values = cv2.resize(predict(self.network, levels)[0], (width, height), interpolation=cv2.INTER_LINEAR)
        values = np.asarray(values.clip(0, 1), np.float32)
        if self.fused:
            values = np.asarray((1 - self.fused) * values + self.fused * fusion.fused(image), np.float32)
        if self.refine:
            values = crf(image, values)
        return sharpen(values) if self.fused and values.any() else values


@torch.no_grad()
def predict(network: nn.Module, images: torch.Tensor) -> Map:
    """The probability of salient: the mean of the predictions for an image and its mirror image.

    Args:
        network: Maps normalised images to logits, in evaluation mode.
        images: (N, 3, S, S) uint8.

    Returns:
        (N, s, s) in [0, 1].
    """
    views = normalise(images)
    mean = (network(views).sigmoid() + network(views.flip(3)).sigmoid().flip(3)) / 2
    return np.asarray(mean[:, 0].float().cpu().numpy(), np.float32)
