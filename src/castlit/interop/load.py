"""Load weights into backbones, strictly."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from castlit.interop.detectron2_names import COUNTER
from castlit.interop.layouts import HEADS, is_beside
from castlit.interop.resnets import which_resnet
from castlit.interop.resolve import groups, listed
from castlit.interop.vits import which_vit
from castlit.interop.weights import Weights, read_weights
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
    given = f"{key}={path}"
    known = None if backbone is None else _built(backbone).state_dict()
    weights = read_weights(path, key, known or ())
    if all(map(is_beside, weights.state)) and not _renamed(weights):
        raise InputError(f"{given}: has only heads ({listed(list(weights.state))}), no backbone")
    name = backbone or _name(weights)
    if known is None and name is None and weights.own:
        # Only heads: a part of a network of your own may have the name of anything else that is left out of others.
        known = {name: x for name, x in weights.state.items() if name.partition(".")[0] not in HEADS}
    if known is None:
        known = _built(_named(name, weights, given)).state_dict()
    return _fitting(known, weights, given, name)


def load_into(backbone: nn.Module, path: str | Path, key: str = "backbone.weights", name: str | None = None) -> Weights:
    """Load a file's weights into a backbone, strictly: the two must have the same weights.

    Only heads are left out, and the log names them.

    Args:
        backbone: As from :func:`castlit.nn.build_backbone`; its device and dtype stay.
        path: As in :func:`load_backbone`.
        key: The config key of the path, for messages.
        name: The backbone's name, for messages.

    Returns:
        What was read; all that the file has besides is in its ``left_out``.

    Raises:
        InputError: As in :func:`load_backbone`, or names or shapes do not match; then the backbone does not change.
    """
    known = backbone.state_dict()
    weights = read_weights(path, key, known)
    state = _fitting(known, weights, f"{key}={path}", name)
    backbone.load_state_dict(state, strict=False)
    return weights._replace(state=state, left_out=_left_out(weights, state))


def open_backbone(
    checkpoint: str | Path,
    backbone: str | None = None,
    seed: int = 0,
    key: str = "checkpoint",
    backbone_key: str = "backbone",
) -> nn.Module:
    """Build a backbone and load a file's weights into it.

    Args:
        checkpoint: As in :func:`load_backbone`; or ``"random"``, for an untrained network.
        backbone: A name for :func:`castlit.nn.build_backbone`. None: the one that a castlit checkpoint names; for
            ResNets, the one that matches the weights' names and shapes; for ``"random"``, a ResNet-50.
        seed: Seed of a random network's weights; torch's global random state does not change.
        key: The config key of the checkpoint, for messages.
        backbone_key: The config key of the backbone's name, for messages.

    Returns:
        A network in evaluation mode: images (N, 3, H, W), normalised by ImageNet's mean and standard deviation, to a
        feature map (N, C, h, w). Call ``train()`` before you train it.

    Raises:
        InputError: As in :func:`load_backbone`.
    """
    if str(checkpoint) == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_backbone(backbone or DEFAULT_BACKBONE).eval()
    given = f"{key}={checkpoint}"
    network = None if backbone is None else _built(backbone)
    weights = read_weights(checkpoint, key, () if network is None else network.state_dict())
    name = backbone or _name(weights)
    if network is None:
        network = _built(_named(name, weights, given, backbone_key))
    network.load_state_dict(_fitting(network.state_dict(), weights, given, name, backbone_key), strict=False)
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
    return weights.backbone or which_resnet(_without_heads(weights))


def _without_heads(weights: Weights) -> dict[str, Tensor]:
    return {name: value for name, value in weights.state.items() if not is_beside(name)}


def _built(name: str) -> nn.Module:
    """The backbone of this name, untrained."""
    with torch.random.fork_rng(devices=[]):  # The initial weights should not advance the program's random state.
        return build_backbone(name)


def _named(name: str | None, weights: Weights, given: str, backbone_key: str = "backbone") -> str:
    """The name of the backbone, which has to be known."""
    if name is None:
        like = which_vit(weights.state) or "convnext_tiny or timm/vit_small_patch16_224"
        raise InputError(
            f"{given}: does not say which backbone its weights{_under(weights)} are of "
            f"({listed(list(weights.state))}): {_renamed(weights) or f'add {backbone_key}=NAME, such as {like}'}"
        )
    return name


def _under(weights: Weights) -> str:
    return f" under {weights.prefix}*" if weights.prefix else ""


def _renamed(weights: Weights) -> str | None:
    """What to do where a ResNet is there under other names, as Lightning modules and torch.compile save it."""
    for name in weights.state:
        prefix = name.removesuffix("conv1.weight")
        inside = {key.removeprefix(prefix): x for key, x in weights.state.items() if key.startswith(prefix)}
        resnet = which_resnet({key: x for key, x in inside.items() if not is_beside(key)}) if prefix != name else None
        if prefix and resnet:
            return f"its {prefix}* are those of {resnet}: save them alone, without {prefix!r} in their names"
    return None


def _fitting(
    known: Mapping[str, Tensor], weights: Weights, given: str, name: str | None, backbone_key: str = "backbone"
) -> dict[str, Tensor]:
    """The weights without heads, if they are those of a backbone.

    Args:
        known: The backbone's own.
        weights: Those of the file.
        given: What messages call the file.
        name: The backbone's name.
        backbone_key: The config key of the name, for messages.

    Raises:
        InputError: Names or shapes differ, a weight is of integers or sparse, or is not finite.
    """
    # A part of the network may have the name of a head: then it is no head.
    state = {name: value for name, value in weights.state.items() if name in known or not is_beside(name)}
    missing = [name for name in known if name not in state and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in known and not name.endswith(COUNTER)]
    shapes = [name for name in state if name in known and state[name].shape != known[name].shape]
    whole = [name for name in state if name in known and _is_rounded(state[name], known[name])]
    found = {"it lacks": missing, "it also has": unexpected, "of another shape are": shapes, "integers are": whole}
    problems = [f"{what} {listed(names)}" for what, names in found.items() if names]
    if problems:
        other = _name(weights) or which_vit(weights.state)
        raise InputError(
            f"{given}: its weights{_under(weights)} are not those of {name or 'this backbone'}: {'; '.join(problems)}"
            + (f": take {backbone_key}={other} instead" if other not in (None, name) else "")
        )
    odd = [name for name, value in state.items() if value.layout != torch.strided or value.is_meta]
    if odd:
        raise InputError(f"{given}: its weights are sparse, or have no values ({listed(odd)}): save dense tensors")
    broken = [name for name, value in state.items() if not _is_possible(name, value)]
    if broken:
        raise InputError(f"{given}: its weights are not finite ({listed(broken)}): take a checkpoint of before")
    logger.info("%s: %s; left out: %s", given, weights.kind, ", ".join(_left_out(weights, state)) or "nothing")
    return state | _counters(known, state)


def _counters(known: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Counters of batch norms for which a file has statistics only: a counter of 0 says that there are none."""
    missing = [name for name in known if name.endswith(COUNTER) and name not in state]
    return {
        name: torch.ones_like(known[name]) for name in missing if f"{name.removesuffix(COUNTER)}running_var" in state
    }


def _is_possible(name: str, value: Tensor) -> bool:
    """Whether a weight is finite; the root of a variance below 0 is not."""
    return bool(value.isfinite().all()) and not (name.endswith("running_var") and bool((value < 0).any()))


def _is_rounded(value: Tensor, known: Tensor) -> bool:
    """Whether a weight that has fractions is of integers, as quantised networks are, which have scales elsewhere."""
    return known.is_floating_point() and not value.is_floating_point()


def _left_out(weights: Weights, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """All that a file has besides the weights that are used."""
    return (*weights.left_out, *groups([name for name in weights.state if name not in state]))
