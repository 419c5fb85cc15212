"""Saliency maps of images, without labels."""

from castlit.saliency.algorithms.fusion import fused
from castlit.saliency.algorithms.hierarchy import hs
from castlit.saliency.algorithms.markov_chain import mc
from castlit.saliency.algorithms.reconstruction import dsr
from castlit.saliency.algorithms.robust_background import rbd

__all__ = ["dsr", "fused", "hs", "mc", "rbd"]
