"""Find a backbone's weights in a checkpoint."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from castlit.interop.detectron2_names import from_detectron2, is_detectron2
from castlit.interop.open_file import open_weights_file
from castlit.utils.serializable import TARGET
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

OWN = "method.encoder.backbone."
"""The prefix of the backbone's weights in castlit's checkpoints."""

PREFIXES = (
    "module.encoder_q.",  # MoCo v1 and v2, and the public CAST code
    "encoder_q.",
    "module.base_encoder.",  # MoCo v3
    "base_encoder.",
    "module.encoder.",  # SimSiam
    "module.backbone.",
    "backbone.",
    "module.",  # anything under DistributedDataParallel
)
"""The prefixes in other checkpoints."""

_AMBIGUOUS = "module.encoder."
"""Under DistributedDataParallel, torchvision's ViTs have a part of this name."""

HEADS = (
    *("fc", "fc_norm", "classifier", "head", "heads", "head_dist", "last_linear"),
    *("projection", "projector", "projection_head", "predictor", "prediction_head"),
    *("aux1", "aux2", "AuxLogits"),
)
"""Parts of a state dict that are not the backbone's: classifiers, and the heads of pretraining."""

_COMPANIONS = ("encoder_k", "momentum_encoder", "momentum_backbone", "teacher", "queue", "queue_ptr", "queue2", *HEADS)
"""Other known parts of a pretraining checkpoint."""

_WEIGHTS_KEYS = ("state_dict", "model", "teacher", "student")
"""The keys of the weights in files that contain more."""

LISTED = 3
"""Names listed in a message."""


class Weights(NamedTuple):
    """A backbone's weights and their origin."""

    state: dict[str, Tensor]
    """By torchvision's or timm's names; may still contain a classifier, see :data:`HEADS`."""
    kind: str
    """The kind of file, for messages."""
    backbone: str | None
    """Its name for :func:`castlit.nn.build_backbone`, if the file gives it."""
    left_out: tuple[str, ...]
    """What else the file contains, by the first parts of the names."""
    own: bool = False
    """Whether it is a castlit checkpoint."""


def read_weights(path: str | Path, key: str = "checkpoint") -> Weights:
    """Find a backbone's weights in a file; nothing in it is executed.

    Args:
        path: A castlit checkpoint, an official checkpoint of MoCo, a state dict of torchvision or timm, bare or under
            ``state_dict`` or ``model``, or a ResNet of detectron2 (.pkl).
        key: The config key of the path, for messages.

    Raises:
        InputError: The file cannot be read safely, has no backbone, or has unknown contents.
    """
    given = f"{key}={path}"
    content = open_weights_file(path, key)
    tensors = _tensors(content, given)
    if any(name.startswith(OWN) for name in tensors):
        return _own(content, tensors)
    for prefix in PREFIXES:
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        others = [name for name in tensors if not name.startswith(prefix)]
        unknown = [name for name in others if name.removeprefix("module.").partition(".")[0] not in _COMPANIONS]
        if not inside or (unknown and prefix == _AMBIGUOUS):
            continue
        if unknown:
            raise InputError(f"{given}: next to {prefix}* it has {listed(unknown)}, which castlit does not know")
        return Weights(inside, f"checkpoint with {prefix}*", None, groups(others))
    if is_detectron2(tensors):
        return Weights(from_detectron2(tensors), "detectron2 weights", None, ())
    return Weights(tensors, "state dict", None, ())


def listed(names: list[str]) -> str:
    """``a, b, c, … (12 in all)``."""
    more = f", … ({len(names)} in all)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def groups(names: list[str]) -> tuple[str, ...]:
    """The first parts of names, each once."""
    return tuple(dict.fromkeys(name.removeprefix("module.").partition(".")[0] for name in names))


def _own(content: Mapping[str, Any], tensors: dict[str, Tensor]) -> Weights:
    settings = content.get("hyper_parameters")
    method = settings.get("method") if isinstance(settings, Mapping) else None
    method = method if isinstance(method, Mapping) else {}
    backbone = method.get("backbone")
    inside = {name.removeprefix(OWN): value for name, value in tensors.items() if name.startswith(OWN)}
    others = [name.removeprefix("method.") for name in tensors if not name.startswith(OWN)]
    parts = (name.split(".")[: 2 if name.startswith("encoder.") else 1] for name in others)
    left_out = tuple(dict.fromkeys(".".join(part) for part in parts))
    kind = f"castlit checkpoint ({str(method.get(TARGET, 'a custom method')).rpartition('.')[2]})"
    return Weights(inside, kind, backbone if isinstance(backbone, str) else None, left_out, own=True)


def _tensors(content: Mapping[str, Any], given: str) -> dict[str, Tensor]:
    """The weights in a file, at the top level or under one of the known keys."""
    for key in _WEIGHTS_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    else:
        if content and not any(isinstance(value, (Tensor, np.ndarray)) for value in content.values()):
            raise InputError(f"{given}: has no weights by name, only {listed(list(map(str, content)))}")
    if not content:
        raise InputError(f"{given}: has no weights by name: it is empty")
    wrong = [str(name) for name, value in content.items() if not isinstance(value, (Tensor, np.ndarray))]
    if wrong:
        raise InputError(f"{given}: not all of its weights are tensors: {listed(wrong)}")
    return {
        str(name): value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        for name, value in content.items()
    }
