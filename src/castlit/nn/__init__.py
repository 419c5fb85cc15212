"""Networks and their parts: backbones, heads, encoder, queue, batch norms. PyTorch only, no Lightning."""

from castlit.nn.attention_layer import attention_layer
from castlit.nn.backbones import build_backbone, feature_channels, tiny_resnet
from castlit.nn.batchnorm import batch_statistics, fresh_norms, lacks_statistics, untracked_batchnorm
from castlit.nn.encoder import DenseEncoder, Encoder
from castlit.nn.head_norm import HeadNorm, held_statistics
from castlit.nn.heads import dense_head, linear_head, mlp_head
from castlit.nn.normalisation import unit_length
from castlit.nn.queue import KeyQueue
from castlit.utils.moved import moved_attribute

__all__ = [
    "DenseEncoder",
    "Encoder",
    "HeadNorm",
    "KeyQueue",
    "attention_layer",
    "batch_statistics",
    "build_backbone",
    "dense_head",
    "feature_channels",
    "fresh_norms",
    "held_statistics",
    "lacks_statistics",
    "linear_head",
    "mlp_head",
    "tiny_resnet",
    "unit_length",
    "untracked_batchnorm",
]


def __getattr__(name: str) -> object:
    return moved_attribute(__name__, name)
