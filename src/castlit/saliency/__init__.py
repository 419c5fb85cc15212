"""Saliency maps of images, without labels."""

from typing import TYPE_CHECKING

from castlit.utils.lazy import lazy_attribute

if TYPE_CHECKING:
    from castlit.saliency.algorithms.fusion import fast, fused
    from castlit.saliency.algorithms.hierarchy import hs
    from castlit.saliency.algorithms.markov_chain import mc
    from castlit.saliency.algorithms.reconstruction import dsr
    from castlit.saliency.algorithms.robust_background import rbd
    from castlit.saliency.pipeline.folder import make_masks
    from castlit.saliency.spectral.predictor import SpectralPredictor
    from castlit.saliency.spectral.settings import SpectralSettings

__all__ = ["SpectralPredictor", "SpectralSettings", "dsr", "fast", "fused", "hs", "make_masks", "mc", "rbd"]

_HOMES = {
    "SpectralPredictor": "spectral.predictor",
    "SpectralSettings": "spectral.settings",
    "dsr": "algorithms.reconstruction",
    "fast": "algorithms.fusion",
    "fused": "algorithms.fusion",
    "hs": "algorithms.hierarchy",
    "make_masks": "pipeline.folder",
    "mc": "algorithms.markov_chain",
    "rbd": "algorithms.robust_background",
}


def __getattr__(name: str) -> object:
    return lazy_attribute(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return __all__
