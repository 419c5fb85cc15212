"""Load weights into backbones: all of them, or none."""

import logging
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
"""In the place of a checkpoint: a network that has learned nothing."""

DEFAULT_BACKBONE = "resnet50"


def load_backbone(path: str | Path, key: str = "checkpoint") -> dict[str, Tensor]:
    """Read a backbone's weights under torchvision's names (or timm's, for timm's backbones), without any head.

    What else the file holds (heads, momentum encoder, queue) is named in the log. Nothing in the file is executed.

    Args:
        path: A file of any kind that :func:`castlit.interop.read_weights` knows.
        key: By which the user gave it, for messages.

    Raises:
        InputError: The file cannot be read safely, holds no backbone, or holds things that are not known.
    """
    weights = read_weights(path, key)
    state = {name: value for name, value in weights.state.items() if not _is_head(name)}
    if not state:
        raise InputError(f"{key}={path}: holds heads only ({listed(list(weights.state))}), no backbone")
    _tell(weights, [name for name in weights.state if name not in state], f"{key}={path}")
    return state


def load_into(backbone: nn.Module, path: str | Path, key: str = "backbone.weights") -> None:
    """Load a file's weights into a backbone, strictly: every weight of either must be in the other.

    Only heads may be left out, and the log names them.

    Args:
        backbone: As :func:`castlit.nn.build_backbone` makes it; its device and type stay.
        path: As in :func:`load_backbone`.
        key: By which the user gave it, for messages.

    Raises:
        InputError: As in :func:`load_backbone`, or names or shapes do not fit; the backbone is as it was.
    """
    _fit(backbone, read_weights(path, key), f"{key}={path}")


def open_backbone(
    checkpoint: str | Path, backbone: str | None = None, seed: int = 0, key: str = "checkpoint"
) -> nn.Module:
    """Build a backbone and load a file's weights into it.

    Args:
        checkpoint: As in :func:`load_backbone`; or ``"random"``, for a network that has learned nothing.
        backbone: A name that :func:`castlit.nn.build_backbone` knows. None: as a checkpoint of castlit's says, or, of
            ResNets, as the weights' names and shapes tell; of ``"random"``, a ResNet-50.
        seed: Of a random network's weights; torch's own random state stays.
        key: By which the user gave the checkpoint, for messages.

    Returns:
        In evaluation mode: images (N, 3, H, W), normalised by ImageNet's mean and standard deviation, to a feature
        map (N, C, h, w).

    Raises:
        InputError: As in :func:`load_into`, or the file does not tell its backbone.
    """
    if str(checkpoint) == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_backbone(backbone or DEFAULT_BACKBONE).eval()
    weights = read_weights(checkpoint, key)
    told = f"{key}={checkpoint}"
    name = backbone or _name(weights)
    if name is None:
        raise InputError(f"{told}: does not tell of which backbone its weights are ({listed(list(weights.state))}): "
                         "add backbone=NAME, such as convnext_tiny or timm/vit_small_patch16_224")  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # The draws that are overwritten below should not change a program's own.
        network = build_backbone(name)
    _fit(network, weights, told, name)
    return network.eval()


def backbone_name(checkpoint: str | Path, key: str = "checkpoint") -> str | None:
    """The backbone that a file tells its weights are of; None where it does not tell, and for ``"random"``.

    Args:
        checkpoint: As in :func:`open_backbone`.
        key: By which the user gave it, for messages.

    Raises:
        InputError: As in :func:`load_backbone`.
    """
    return None if str(checkpoint) == RANDOM else _name(read_weights(checkpoint, key))


def _name(weights: Weights) -> str | None:
    return weights.backbone or which_resnet({n: x for n, x in weights.state.items() if not _is_head(n)})


def _fit(network: nn.Module, weights: Weights, told: str, name: str = "") -> None:
    known = network.state_dict()
    # A head's name may be that of a part that the features need: then it is no head.
    heads = [name for name in weights.state if name not in known and _is_head(name)]
    state = {name: value for name, value in weights.state.items() if name not in heads}
    missing = [name for name in known if name not in state and not name.endswith(COUNTER)]
    strange = [name for name in state if name not in known and not name.endswith(COUNTER)]
    shapes = [name for name in state if name in known and state[name].shape != known[name].shape]
    problems = [
        f"{what} {listed(names)}"
        for names, what in ((missing, "it lacks"), (strange, "it also has"), (shapes, "of another shape are"))
        if names
    ]
    if problems:
        raise InputError(f"{told}: its weights are not those of {name or 'this backbone'}: {'; '.join(problems)}")
    network.load_state_dict(state, strict=False)
    _tell(weights, heads, told)


def _tell(weights: Weights, heads: list[str], told: str) -> None:
    left = [*weights.left_out, *groups(heads)]
    logger.info("%s: %s; left out: %s", told, weights.kind, ", ".join(left) or "nothing")


def _is_head(name: str) -> bool:
    return name.partition(".")[0] in HEADS
