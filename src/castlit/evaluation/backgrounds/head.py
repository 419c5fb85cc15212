"""A linear head on features, and the mapping from its outputs to classes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from castlit.utils.json_files import load_json
from castlit.utils.plain_file import read_plain
from castlit.utils.validation import InputError

_NAMES = ("", "fc.", "classifier.", "head.", "head.fc.")
"""Prefixes of a linear layer's weight and bias: alone, or in torchvision's and timm's networks."""


class LinearHead(NamedTuple):
    """Scores are ``features @ weight.T + bias``."""

    weight: NDArray[np.float32]
    """(classes, C)."""
    bias: NDArray[np.float32]
    """(classes,)."""

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class (N,) with the highest score for features (N, C)."""
        return np.asarray((features @ self.weight.T + self.bias).argmax(1), np.int64)


def read_head(path: str | Path, channels: int) -> LinearHead:
    """Read a linear layer from a state dict of the layer (``weight``, ``bias``) or of a classifier (``fc.weight``).

    Args:
        path: The file; nothing in it is executed.
        channels: C of the features.

    Raises:
        InputError: No such file, no linear layer in it, or one for another number of features.
    """
    if not Path(path).is_file():
        raise InputError(f"protocol.head={path}: no such file; give a state dict with a linear layer")
    content = read_plain(path, f"protocol.head={path}", "a state dict", mapped=False)
    for inner in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(inner), dict):
            content = content[inner]
    for name in _NAMES if isinstance(content, dict) else ():
        for prefix in ("", "module."):
            weight, bias = content.get(f"{prefix}{name}weight"), content.get(f"{prefix}{name}bias")
            if isinstance(weight, Tensor) and weight.dim() == 2:
                if weight.shape[1] != channels:
                    raise InputError(
                        f"protocol.head={path}: it takes {weight.shape[1]} features, but the backbone gives {channels}"
                    )
                bias = torch.zeros(len(weight)) if bias is None else bias
                if not isinstance(bias, Tensor) or bias.shape != weight.shape[:1]:
                    raise InputError(
                        f"protocol.head={path}: its bias is not that of its weight, which has {len(weight)} outputs"
                    )
                return LinearHead(weight.detach().float().numpy(), bias.detach().float().numpy())
    raise InputError(f"protocol.head={path}: no linear layer in it, such as fc.weight and fc.bias")


def read_mapping(path: str | Path, outputs: int, classes: int) -> NDArray[np.int64]:
    """Read the class of each output of a head, -1 for none: the challenge's ``in_to_in9.json``.

    Args:
        path: A JSON object from output numbers (as text) to class numbers.
        outputs: Number of outputs of the head.
        classes: Number of classes.

    Returns:
        (outputs,).

    Raises:
        InputError: The file is missing or not JSON, or numbers are missing or out of range.
    """
    if not Path(path).is_file():
        raise InputError(f"protocol.mapping={path}: no such file; give the challenge's in_to_in9.json")
    try:
        content = load_json(Path(path).read_text(encoding="utf-8"))
        mapping = np.array([int(content[str(i)]) for i in range(outputs)], np.int64)
    except (ValueError, TypeError) as error:
        raise InputError(f"protocol.mapping={path}: is not a JSON object of whole numbers ({error})") from None
    except KeyError as error:
        raise InputError(f"protocol.mapping={path}: output {error} of the head's {outputs} is missing") from None
    if mapping.min() < -1 or mapping.max() >= classes:
        span = f"{mapping.min()} to {mapping.max()}"
        raise InputError(f"protocol.mapping={path}: classes are -1 to {classes - 1}, got {span}")
    return mapping
