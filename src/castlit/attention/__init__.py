"""Activation taps, Grad-CAM and the attention loss."""

from castlit.attention.cam import grad_cam, raw_cam
from castlit.attention.contrast import contrast
from castlit.attention.hooks import Activations, find_layer, tap
from castlit.attention.loss import attention_loss, enlarge_cams, has_object, pointing_hits, reference_attention_loss
from castlit.attention.module import AttentionLoss, AttentionOutput
from castlit.attention.targets import Embeddings, Target

__all__ = [
    "Activations",
    "AttentionLoss",
    "AttentionOutput",
    "Embeddings",
    "Target",
    "attention_loss",
    "contrast",
    "enlarge_cams",
    "find_layer",
    "grad_cam",
    "has_object",
    "pointing_hits",
    "raw_cam",
    "reference_attention_loss",
    "tap",
]
