"""Open the encoder whose features are cut."""

from pathlib import Path

import torch

from castlit.interop import open_backbone
from castlit.saliency.spectral.predictor import SpectralPredictor
from castlit.saliency.spectral.settings import SpectralSettings


def open_predictor(checkpoint: str | Path, backbone: str | None, settings: SpectralSettings) -> SpectralPredictor:
    """Load an encoder, onto a GPU if there is one.

    Args:
        checkpoint: A file, or a name, see :func:`castlit.interop.open_backbone`.
        backbone: The backbone's name, where the file does not say it.
        settings: How its features are cut.

    Raises:
        InputError: The checkpoint cannot be read, or its network has no such layer or does not take the size.
    """
    network = open_backbone(checkpoint, backbone, backbone_key="spectral.backbone")
    return SpectralPredictor(network.to("cuda" if torch.cuda.is_available() else "cpu"), settings)
