"""The default layer of a backbone's CAM."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from castlit.nn.output_shape import blank_image_output
from castlit.utils.validation import InputError

OWN_OUTPUT = "backbone"
"""The backbone's own output: the backbone's name inside its encoder."""

# Large first: at 64 px, some networks' last maps are 1 × 1.
_SIZES = (224, 256, 64, 384, 299, 512, 32)


class _Output(NamedTuple):
    name: str
    feature_map: Tensor


_found: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""Backbones that have been run to find their layer."""


def default_layer(backbone: nn.Module) -> str:
    """The layer of :func:`attention_layer`. ResNets are known; others run once to find it."""
    if hasattr(backbone, "layer4"):
        return "layer4"
    if backbone not in _found:
        _found[backbone] = attention_layer(backbone)
    return _found[backbone]


def attention_layer(backbone: nn.Module) -> str:
    """Find the last layer of a backbone whose output is a feature map with more than one position.

    For a network in stages this is the last stage: ``"layer4"`` of a ResNet, ``"features.7"`` of torchvision's
    ConvNeXt, ``"stages.3"`` of timm's. For a ViT it is ``"feature_map"``, the folded output of the last norm: castlit
    pools the patch tokens and not the class token, so each patch's last output counts (see
    :class:`castlit.nn.tokens.TokensToGrid`). For a network that pools its map it is the layer before the pooling.

    The backbone runs once on a blank image, as in :func:`castlit.nn.feature_channels`, and does not change.

    Args:
        backbone: Takes images (N, 3, H, W).

    Returns:
        The layer's name inside the backbone; or ``"backbone"``, if no layer inside has the backbone's output.
        :func:`castlit.attention.find_layer` and :func:`castlit.attention.tap` accept both for an encoder.

    Raises:
        InputError: No layer's output is a feature map.
    """
    seen: list[_Output] = []
    # A run at a size that fails must leave no outputs.
    handles = [backbone.register_forward_pre_hook(lambda module, inputs: seen.clear())]
    for name, part in backbone.named_modules():
        if not isinstance(part, (nn.Identity, nn.Dropout)):  # These return other layers' outputs.
            handles.append(part.register_forward_hook(_Recorder(name, seen)))
    try:
        blank_image_output(backbone, _SIZES)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise InputError("no layer of the backbone gives a feature map (N, C, h, w): name one, attention.layer=...")
    # Outputs are recorded in the order of the returns: a module's after those of its parts.
    last = seen[-1]
    return _stage(last, seen) or OWN_OUTPUT


def _stage(output: _Output, seen: list[_Output]) -> str:
    """Descend to the part that computes the map, as long as the parts have different resolutions."""
    prefix = f"{output.name}." if output.name else ""
    parts = [part for part in seen if part.name.startswith(prefix) and part.name != output.name]
    direct = [part for part in parts if not any(part.name.startswith(f"{other.name}.") for other in parts)]
    resolutions = {part.feature_map.shape[2:] for part in direct}
    same = [part for part in direct if part.feature_map is output.feature_map]
    if not same or (output.name and len(resolutions) == 1):
        return output.name
    return _stage(same[-1], seen)


class _Recorder:
    def __init__(self, name: str, seen: list[_Output]) -> None:
        self.name, self.seen = name, seen

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            self.seen.append(_Output(self.name, output))
