"""Plain building blocks: backbones, heads, queue, momentum encoder. Torch only, no Lightning."""

from castlit.nn.attention_layer import attention_layer
from castlit.nn.backbones import build_backbone, feature_channels, tiny_resnet
from castlit.nn.batchnorm import batch_statistics, lacks_statistics, untracked_batchnorm
from castlit.nn.checks import InputError
from castlit.nn.ema import momentum_copy, scheduled_momentum, update_average
from castlit.nn.encoder import DenseEncoder, Encoder
from castlit.nn.head_norm import HeadNorm, held_statistics
from castlit.nn.heads import dense_head, linear_head, mlp_head
from castlit.nn.lars import LARS
from castlit.nn.optim import OptimizerRecipe
from castlit.nn.queue import KeyQueue
from castlit.nn.spec import Described, Spec, build, describe
from castlit.nn.unit_length import unit_length

__all__ = [
    "LARS",
    "DenseEncoder",
    "Described",
    "Encoder",
    "HeadNorm",
    "InputError",
    "KeyQueue",
    "OptimizerRecipe",
    "Spec",
    "attention_layer",
    "batch_statistics",
    "build",
    "build_backbone",
    "dense_head",
    "describe",
    "feature_channels",
    "held_statistics",
    "lacks_statistics",
    "linear_head",
    "mlp_head",
    "momentum_copy",
    "scheduled_momentum",
    "tiny_resnet",
    "unit_length",
    "untracked_batchnorm",
    "update_average",
]
