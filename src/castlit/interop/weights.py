"""Find a backbone's weights among everything that checkpoints hold."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from castlit.interop.detectron2_names import from_detectron2, is_detectron2
from castlit.interop.opening import open_weights_file
from castlit.utils.serializable import TARGET
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

OWN = "method.encoder.backbone."
"""Where castlit's checkpoints hold the backbone."""

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
"""Where others' checkpoints hold it."""

_ALSO_A_PART = "module.encoder."
"""Under DistributedDataParallel, torchvision's ViTs have a part of that name."""

HEADS = (
    *("fc", "fc_norm", "classifier", "head", "heads", "head_dist", "last_linear"),
    *("projection", "projector", "projection_head", "predictor", "prediction_head"),
    *("aux1", "aux2", "AuxLogits"),
)
"""What may stand beside a backbone's parts in its own state dict: classifiers, and the heads of pretraining."""

_COMPANIONS = ("encoder_k", "momentum_encoder", "momentum_backbone", "teacher", "queue", "queue_ptr", "queue2", *HEADS)
"""What may stand beside the backbone in a checkpoint of pretraining."""

_BELOW = ("state_dict", "model", "teacher", "student")
"""Under which key files keep the weights, where they hold more."""

LISTED = 3
"""Names listed in a message."""


class Weights(NamedTuple):
    """A backbone's weights, and what is known of them."""

    state: dict[str, Tensor]
    """By torchvision's or timm's names; may still hold a classifier, see :data:`HEADS`."""
    kind: str
    """What the file is, in words."""
    backbone: str | None
    """The name that :func:`castlit.nn.build_backbone` knows it by, where the file tells."""
    left_out: tuple[str, ...]
    """What else the file holds, by the first parts of the names."""


def read_weights(path: str | Path, key: str = "checkpoint") -> Weights:
    """Find a backbone's weights in a file; nothing in it is executed.

    Args:
        path: A checkpoint of castlit's training, an official checkpoint of MoCo, a state dict of torchvision or timm,
            bare or under ``state_dict`` or ``model``, or a ResNet of detectron2's (.pkl).
        key: By which the user gave it.

    Raises:
        InputError: The file cannot be read safely, or holds no backbone, or things that are not known.
    """
    told = f"{key}={path}"
    content = open_weights_file(path, key)
    tensors = _tensors(content, told)
    if any(name.startswith(OWN) for name in tensors):
        return _own(content, tensors)
    for prefix in PREFIXES:
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        beside = [name for name in tensors if not name.startswith(prefix)]
        strange = [name for name in beside if name.removeprefix("module.").partition(".")[0] not in _COMPANIONS]
        if not inside or (strange and prefix == _ALSO_A_PART):
            continue
        if strange:
            raise InputError(f"{told}: beside {prefix}* it holds {listed(strange)}, which castlit does not know")
        return Weights(inside, f"checkpoint with {prefix}*", None, groups(beside))
    if is_detectron2(tensors):
        return Weights(from_detectron2(tensors), "weights of detectron2's", None, ())
    return Weights(tensors, "state dict", None, ())


def listed(names: list[str]) -> str:
    """``a, b, c, … (12 in all)``."""
    more = f", … ({len(names)} in all)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def groups(names: list[str]) -> tuple[str, ...]:
    """The first parts of names, each once."""
    return tuple(dict.fromkeys(name.removeprefix("module.").partition(".")[0] for name in names))


def _own(content: Mapping[str, Any], tensors: dict[str, Tensor]) -> Weights:
    method = content.get("hyper_parameters", {}).get("method", {})
    backbone = method.get("backbone")
    inside = {name.removeprefix(OWN): value for name, value in tensors.items() if name.startswith(OWN)}
    beside = [name.removeprefix("method.") for name in tensors if not name.startswith(OWN)]
    parts = (name.split(".")[: 2 if name.startswith("encoder.") else 1] for name in beside)
    left_out = tuple(dict.fromkeys(".".join(part) for part in parts))
    kind = f"checkpoint of castlit's ({method.get(TARGET, 'a method of your own').rpartition('.')[2]})"
    return Weights(inside, kind, backbone if isinstance(backbone, str) else None, left_out)


def _tensors(content: Mapping[str, Any], told: str) -> dict[str, Tensor]:
    """The weights in a file, wherever it keeps them."""
    for key in _BELOW:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    else:
        if not any(isinstance(value, (Tensor, np.ndarray)) for value in content.values()):
            held = f", only {listed(list(map(str, content)))}" if content else ": it is empty"
            raise InputError(f"{told}: holds no weights by name{held}")
    wrong = [str(name) for name, value in content.items() if not isinstance(value, (Tensor, np.ndarray))]
    if wrong or not content:
        raise InputError(f"{told}: holds things among its weights that are none: {listed(wrong) or 'nothing at all'}")
    return {
        str(name): value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        for name, value in content.items()
    }
