"""The protocol ``backgrounds``: how much a network relies on backgrounds (Xiao et al., ICLR 2021)."""

from castlit.evaluation.backgrounds.head import LinearHead, read_head, read_mapping
from castlit.evaluation.backgrounds.make import make_backgrounds
from castlit.evaluation.backgrounds.protocol import evaluate_backgrounds
from castlit.evaluation.backgrounds.variants import VARIANTS, Cut, box_area, mixed, variants_of

__all__ = [
    "VARIANTS",
    "Cut",
    "LinearHead",
    "box_area",
    "evaluate_backgrounds",
    "make_backgrounds",
    "mixed",
    "read_head",
    "read_mapping",
    "variants_of",
]
