"""Read and write weights: castlit's, and those of other programs (see ``castlit.interop.layouts``)."""

from castlit.interop.export_file import FORMATS, export
from castlit.interop.load import RANDOM, backbone_name, load_backbone, load_into, open_backbone
from castlit.interop.weights import Weights, read_weights

__all__ = [
    "FORMATS",
    "RANDOM",
    "Weights",
    "backbone_name",
    "export",
    "load_backbone",
    "load_into",
    "open_backbone",
    "read_weights",
]
