"""Plain building blocks: backbones, heads, queue, momentum encoder. Torch only, no Lightning."""

from castlit.nn.backbones import build_backbone, feature_channels, tiny_resnet
from castlit.nn.batchnorm import batch_statistics, lacks_statistics, untracked_batchnorm
from castlit.nn.checks import InputError
from castlit.nn.ema import momentum_copy, scheduled_momentum, update_average
from castlit.nn.encoder import Encoder
from castlit.nn.heads import linear_head, mlp_head
from castlit.nn.lars import LARS
from castlit.nn.optim import OptimizerRecipe
from castlit.nn.queue import KeyQueue
from castlit.nn.spec import Described, Spec, build, describe

__all__ = [
    "LARS",
    "Described",
    "Encoder",
    "InputError",
    "KeyQueue",
    "OptimizerRecipe",
    "Spec",
    "batch_statistics",
    "build",
    "build_backbone",
    "describe",
    "feature_channels",
    "lacks_statistics",
    "linear_head",
    "mlp_head",
    "momentum_copy",
    "scheduled_momentum",
    "tiny_resnet",
    "untracked_batchnorm",
    "update_average",
]
