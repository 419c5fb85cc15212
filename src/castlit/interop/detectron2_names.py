"""The weights' names of a ResNet in detectron2 and torchvision.

In detectron2 the stem's parts are ``stem.*``, the stages ``res2`` to ``res5``, the batch norm after ``conv1`` is
``conv1.norm``, and a block's projection is ``shortcut``.
"""

import re

COUNTER = "num_batches_tracked"
"""Batch norm's counter, which is optional: old files and detectron2's do not have it."""

_STAGE = re.compile(r"res(\d)\.(\d+)\.(.+)")
_LAYER = re.compile(r"layer(\d)\.(\d+)\.(.+)")


def to_torchvision(name: str) -> str:
    """``res2.0.conv1.norm.weight`` to ``layer1.0.bn1.weight``; other names stay."""
    stage = _STAGE.fullmatch(name)
    if stage is None:
        return _norm_to_bn(name.removeprefix("stem."))
    number, block, rest = stage.groups()
    if rest.startswith("shortcut."):
        rest = rest.replace("shortcut.norm.", "downsample.1.").replace("shortcut.", "downsample.0.")
    return f"layer{int(number) - 1}.{block}.{_norm_to_bn(rest)}"


def to_detectron2(name: str) -> str:
    """``layer1.0.bn1.weight`` to ``res2.0.conv1.norm.weight``."""
    layer = _LAYER.fullmatch(name)
    if layer is None:
        return f"stem.{_bn_to_norm(name)}"
    number, block, rest = layer.groups()
    rest = rest.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return f"res{int(number) + 1}.{block}.{_bn_to_norm(rest)}"


def _norm_to_bn(name: str) -> str:
    return re.sub(r"^conv(\d)\.norm\.", r"bn\1.", name)


def _bn_to_norm(name: str) -> str:
    return re.sub(r"^bn(\d)\.", r"conv\1.norm.", name)
