"""Saliency maps of images, with no labels: what stands out against its surroundings."""

from castlit.saliency.dsr import dsr
from castlit.saliency.fused import fused
from castlit.saliency.hs import hs
from castlit.saliency.mc import mc
from castlit.saliency.rbd import rbd

__all__ = ["dsr", "fused", "hs", "mc", "rbd"]
