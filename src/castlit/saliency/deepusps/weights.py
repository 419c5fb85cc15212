"""Start a backbone from weights that were learned before: castlit's checkpoints, or a torchvision state dict."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from castlit.nn.checks import InputError

CLASSIFIERS = ("fc", "classifier", "head", "heads")
"""What state dicts of classifiers hold besides the backbone."""

_IN_CHECKPOINT = "method.encoder.backbone."
_NAMED = 3  # names listed in a message

logger = logging.getLogger(__name__)


def load_backbone(backbone: nn.Module, path: str | Path, key: str = "backbone.weights") -> None:
    """Load weights into a backbone; all of them, or none. Nothing in the file is executed.

    Args:
        backbone: As :func:`castlit.nn.build_backbone` makes it.
        path: A checkpoint of castlit's training, whose encoder's backbone is taken; or a state dict under the names of
            torchvision or timm, whose classifier is left off, as the log says.
        key: By which the user gave the path.

    Raises:
        InputError: No such file, no weights in it, or names or shapes that do not fit.
    """
    state = _backbone_state(Path(path).expanduser(), key)
    known = backbone.state_dict()
    left_off = [name for name in state if name not in known and name.partition(".")[0] in CLASSIFIERS]
    state = {name: value for name, value in state.items() if name not in left_off}
    # Old files do not count batches; nothing depends on it.
    missing = [name for name in known if name not in state and not name.endswith("num_batches_tracked")]
    strange = [name for name in state if name not in known]
    shapes = [name for name in state if name in known and state[name].shape != known[name].shape]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
        for names, what in ((missing, "are missing"), (strange, "are unknown"), (shapes, "have another shape"))
        if names
    ]
    if problems:
        raise InputError(
            f"{key}={path} does not fit the backbone: of its weights {', '.join(problems)}; give the backbone.name "
            "that it was trained with"
        )
    backbone.load_state_dict(state, strict=False)
    if left_off:
        logger.info("%s=%s: the classifier (%s) is left off", key, path, ", ".join(left_off))


def _backbone_state(path: Path, key: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{key}={path}: no such file; give a .ckpt of castlit's training, or a torchvision state dict")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{key}={path}: holds no weights, or is damaged ({type(error).__name__})") from None
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    inside = {
        name.removeprefix(_IN_CHECKPOINT): value for name, value in state.items() if name.startswith(_IN_CHECKPOINT)
    }
    found = inside or (state if state is content else {})
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{key}={path}: neither a checkpoint of castlit's training nor a state dict of a backbone")
    return dict(found)
