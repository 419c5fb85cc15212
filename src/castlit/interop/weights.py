"""Find a backbone's weights in a checkpoint."""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from castlit.interop.cached import cached_weights
from castlit.interop.layouts import CONTAINERS
from castlit.interop.open_file import open_weights_file
from castlit.interop.resolve import listed, resolve
from castlit.utils.serializable import TARGET
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

OWN = "method.encoder.backbone."
"""The prefix of the backbone's weights in castlit's checkpoints."""


class Weights(NamedTuple):
    """A backbone's weights and their origin."""

    state: dict[str, Tensor]
    """By torchvision's or timm's names; may still contain a classifier."""
    kind: str
    """The kind of file, for messages."""
    backbone: str | None
    """Its name for :func:`castlit.nn.build_backbone`, if the file gives it."""
    left_out: tuple[str, ...]
    """What else the file contains, by the first parts of the names."""
    own: bool = False
    """Whether it is a castlit checkpoint."""
    prefix: str = ""
    """What stood before the names of the weights, such as ``module.encoder_q.``."""


def read_weights(path: str | Path, key: str = "checkpoint", known: Collection[str] = ()) -> Weights:
    """Find a backbone's weights in a file; nothing in it is executed.

    Args:
        path: A castlit checkpoint; the weights of another program, in any layout of :mod:`castlit.interop.layouts`; or
            ``torchvision/NAME`` or ``timm/NAME``, for weights in these libraries' caches, such as
            ``torchvision/resnet50.IMAGENET1K_V2`` and ``timm/resnet50.a1_in1k``.
        key: The config key of the path, for messages.
        known: The names of the backbone's weights, if they are known: where a file has all of them, they count.

    Raises:
        InputError: The file cannot be read safely, has no backbone, or has unknown contents.
    """
    given = f"{key}={path}"
    cached = cached_weights(path, key)
    content = open_weights_file(path if cached is None else cached.file, key)
    tensors, siblings = _tensors(content, given)
    outer = _outer_prefix(tensors)
    if outer is not None:
        return _own(content, {name.removeprefix(outer): x for name, x in tensors.items() if name.startswith(outer)})
    found = resolve(tensors, given, known)
    kind = [*([f"checkpoint with {found.prefix}*"] if found.prefix else []), *found.layouts]
    backbone = None if cached is None else cached.backbone
    left_out = tuple(dict.fromkeys((*found.left_out, *siblings)))
    return Weights(found.state, ", ".join(kind) or "state dict", backbone, left_out, prefix=found.prefix)


def _outer_prefix(names: Iterable[str]) -> str | None:
    """What stands before castlit's names, such as ``cast.`` of a module that contains a CASTModule; None: no names."""
    outer = {name.partition(OWN)[0] for name in names if OWN in name}
    return next(iter(outer)) if len(outer) == 1 and all(not each or each.endswith(".") for each in outer) else None


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


def _tensors(content: Mapping[str, Any], given: str) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in a file, at the top level or under one of the known keys, and the keys of others beside them."""
    siblings: list[str] = []
    for path in CONTAINERS:
        inner: Any = content
        for key in path:
            outer, inner = inner, inner.get(key) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping):
            siblings = [str(name) for name, x in outer.items() if x is not inner and _has_tensors(x)]
            content = inner
            break
    else:
        if content and not _has_tensors(content):
            raise InputError(f"{given}: has no weights by name, only {listed(list(map(str, content)))}")
    if not content:
        raise InputError(f"{given}: has no weights by name: it is empty")
    wrong = [str(name) for name, value in content.items() if not isinstance(value, (Tensor, np.ndarray))]
    if wrong:
        raise InputError(f"{given}: not all of its weights are tensors: {listed(wrong)}")
    tensors = {
        str(name): value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        for name, value in content.items()
    }
    return tensors, siblings


def _has_tensors(content: object) -> bool:
    return isinstance(content, Mapping) and any(isinstance(each, (Tensor, np.ndarray)) for each in content.values())
