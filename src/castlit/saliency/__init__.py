"""Saliency maps of images, with no labels: what stands out against its surroundings."""

from castlit.saliency.fusion import fused
from castlit.saliency.hierarchy import hs
from castlit.saliency.markov_chain import mc
from castlit.saliency.reconstruction import dsr
from castlit.saliency.robust_background import rbd

__all__ = ["dsr", "fused", "hs", "mc", "rbd"]
