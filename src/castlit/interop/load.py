"""Load weights into backbones, strictly."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from castlit.interop.detectron2_names import COUNTER
from castlit.interop.resnets import which_resnet
from castlit.interop.weights import HEADS, Weights, groups, listed, read_weights
from castlit.nn.backbones import build_backbone
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

RANDOM = "random"
"""Instead of a checkpoint: an untrained network."""

DEFAULT_BACKBONE = "resnet50"


def load_backbone(path: str | Path, key: str = "checkpoint", backbone: str | None = None) -> dict[str, Tensor]:
    """Read a backbone's weights under torchvision's names (or timm's, for timm's backbones), without any head.

    They are complete, have the shapes of the backbone, and are finite. The log names what else the file contains
    (heads, momentum encoder, queue). Nothing in the file is executed.

    Args:
        path: A file of any kind that :func:`castlit.interop.read_weights` reads.
        key: The config key of the path, for messages.
        backbone: As in :func:`open_backbone`. A castlit checkpoint whose backbone is a network of your own needs none:
            its weights have the names of that network.

    Raises:
        InputError: The file cannot be read safely, has no backbone, or does not say which; or its weights are not those
            of the backbone, or not finite.
    """
    weights, given = read_weights(path, key), f"{key}={path}"
    if all(map(_is_head, weights.state)):
        raise InputError(f"{given}: has only heads ({listed(list(weights.state))}), no backbone")
    name = backbone or _name(weights)
    if name is None and weights.own:
        known = {name: value for name, value in weights.state.items() if not _is_head(name)}
    else:
        known = _built(name, weights, given).state_dict()
    return _fitting(known, weights, given, name or "")


def load_into(backbone: nn.Module, path: str | Path, key: str = "backbone.weights") -> None:
    """Load a file's weights into a backbone, strictly: the two must have the same weights.

    Only heads are left out, and the log names them.

    Args:
        backbone: As from :func:`castlit.nn.build_backbone`; its device and dtype stay.
        path: As in :func:`load_backbone`.
        key: The config key of the path, for messages.

    Raises:
        InputError: As in :func:`load_backbone`, or names or shapes do not match; then the backbone does not change.
    """
    backbone.load_state_dict(_fitting(backbone.state_dict(), read_weights(path, key), f"{key}={path}"), strict=False)


def open_backbone(
    checkpoint: str | Path, backbone: str | None = None, seed: int = 0, key: str = "checkpoint"
) -> nn.Module:
    """Build a backbone and load a file's weights into it.

    Args:
        checkpoint: As in :func:`load_backbone`; or ``"random"``, for an untrained network.
        backbone: A name for :func:`castlit.nn.build_backbone`. None: the one that a castlit checkpoint names; for
            ResNets, the one that matches the weights' names and shapes; for ``"random"``, a ResNet-50.
        seed: Seed of a random network's weights; torch's global random state does not change.
        key: The config key of the checkpoint, for messages.

    Returns:
        A network in evaluation mode: images (N, 3, H, W), normalised by ImageNet's mean and standard deviation, to a
        feature map (N, C, h, w).

    Raises:
        InputError: As in :func:`load_backbone`.
    """
    if str(checkpoint) == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_backbone(backbone or DEFAULT_BACKBONE).eval()
    weights = read_weights(checkpoint, key)
    given = f"{key}={checkpoint}"
    name = backbone or _name(weights)
    network = _built(name, weights, given)
    network.load_state_dict(_fitting(network.state_dict(), weights, given, name or ""), strict=False)
    return network.eval()


def backbone_name(checkpoint: str | Path, key: str = "checkpoint") -> str | None:
    """The name of the backbone that a file's weights are of; None if the file does not say, and for ``"random"``.

    Args:
        checkpoint: As in :func:`open_backbone`.
        key: The config key of the checkpoint, for messages.

    Raises:
        InputError: As in :func:`load_backbone`.
    """
    return None if str(checkpoint) == RANDOM else _name(read_weights(checkpoint, key))


def _name(weights: Weights) -> str | None:
    return weights.backbone or which_resnet({n: x for n, x in weights.state.items() if not _is_head(n)})


def _built(name: str | None, weights: Weights, given: str) -> nn.Module:
    """The backbone of this name, untrained."""
    if name is None:
        raise InputError(
            f"{given}: does not say which backbone its weights are of ({listed(list(weights.state))}): "
            f"{_renamed(weights) or 'add backbone=NAME, such as convnext_tiny or timm/vit_small_patch16_224'}"
        )
    with torch.random.fork_rng(devices=[]):  # The initial weights should not advance the program's random state.
        return build_backbone(name)


def _renamed(weights: Weights) -> str | None:
    """What to do where a ResNet is there under other names, as Lightning modules and torch.compile save it."""
    for name in weights.state:
        prefix = name.removesuffix("conv1.weight")
        inside = {key.removeprefix(prefix): x for key, x in weights.state.items() if key.startswith(prefix)}
        resnet = which_resnet({key: x for key, x in inside.items() if not _is_head(key)}) if prefix != name else None
        if prefix and resnet:
            return f"its {prefix}* are those of {resnet}: save them alone, without {prefix!r} in their names"
    return None


def _fitting(known: Mapping[str, Tensor], weights: Weights, given: str, name: str = "") -> dict[str, Tensor]:
    """The weights without heads, if they are those of a backbone.

    Args:
        known: The backbone's own.
        weights: Those of the file.
        given: What messages call the file.
        name: The backbone's name.

    Raises:
        InputError: Names or shapes differ, or a weight is not finite.
    """
    # A part of the network may have the name of a head: then it is no head.
    heads = [name for name in weights.state if name not in known and _is_head(name)]
    state = {name: value for name, value in weights.state.items() if name not in heads}
    missing = [name for name in known if name not in state and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in known and not name.endswith(COUNTER)]
    shapes = [name for name in state if name in known and state[name].shape != known[name].shape]
    problems = [
        f"{what} {listed(names)}"
        for names, what in ((missing, "it lacks"), (unexpected, "it also has"), (shapes, "of another shape are"))
        if names
    ]
    if problems:
        raise InputError(f"{given}: its weights are not those of {name or 'this backbone'}: {'; '.join(problems)}")
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise InputError(f"{given}: its weights are not finite ({listed(broken)}): take a checkpoint of before")
    left_out = [*weights.left_out, *groups(heads)]
    logger.info("%s: %s; left out: %s", given, weights.kind, ", ".join(left_out) or "nothing")
    return state


def _is_head(name: str) -> bool:
    return name.partition(".")[0] in HEADS
