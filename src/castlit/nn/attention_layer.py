"""The layer where a CAM looks by default, found by itself."""

from typing import NamedTuple

from torch import Tensor, nn

from castlit.nn.output_shape import dry_run
from castlit.utils.validation import InputError

WHOLE = "backbone"
"""The backbone's own output: what the backbone is called inside its encoder."""

# Large first: at 64 px, some networks' last maps have one place only.
_SIZES = (224, 256, 64, 384, 299, 512, 32)


class _Output(NamedTuple):
    name: str
    feature_map: Tensor


def attention_layer(backbone: nn.Module) -> str:
    """Find the last layer of a backbone whose output is a feature map with more than one place.

    Of a network in stages it is the last stage: ``"layer4"`` of a ResNet, ``"features.7"`` of torchvision's ConvNeXt,
    ``"stages.3"`` of timm's. Of a ViT it is ``"feature_map"``, the folded output of the last norm: the patches
    themselves are pooled here and not the class token, so that each patch's last output counts (see
    :class:`castlit.nn.tokens.TokensToGrid`). A network that pools its map away is looked at before it does so.

    The backbone runs once on a blank image, as in :func:`castlit.nn.feature_channels`, and is as before afterwards.

    Args:
        backbone: Takes images (N, 3, H, W).

    Returns:
        The layer's name inside the backbone; or ``"backbone"``, for its own output, where no layer inside gives it.
        :func:`castlit.attention.find_layer` and :func:`castlit.attention.tap` know both in the encoder that holds the
        backbone.

    Raises:
        InputError: No layer gives a feature map.
    """
    seen: list[_Output] = []
    # An attempt at a size that fails leaves nothing behind.
    handles = [backbone.register_forward_pre_hook(lambda module, inputs: seen.clear())]
    for name, part in backbone.named_modules():
        if not isinstance(part, (nn.Identity, nn.Dropout)):  # These pass on what others made.
            handles.append(part.register_forward_hook(_Recorder(name, seen)))
    try:
        dry_run(backbone, _SIZES)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise InputError("no layer of the backbone gives a feature map (N, C, h, w): name one, attention.layer=...")
    # What runs last returns last, and what holds it after it.
    last = seen[-1]
    return _stage(last, seen) or WHOLE


def _stage(whole: _Output, seen: list[_Output]) -> str:
    """Go inwards to where the map comes from, as long as the parts work at different resolutions."""
    prefix = f"{whole.name}." if whole.name else ""
    parts = [part for part in seen if part.name.startswith(prefix) and part.name != whole.name]
    direct = [part for part in parts if not any(part.name.startswith(f"{other.name}.") for other in parts)]
    resolutions = {part.feature_map.shape[2:] for part in direct}
    same = [part for part in direct if part.feature_map is whole.feature_map]
    if not same or (whole.name and len(resolutions) == 1):
        return whole.name
    return _stage(same[-1], seen)


class _Recorder:
    def __init__(self, name: str, seen: list[_Output]) -> None:
        self.name, self.seen = name, seen

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            self.seen.append(_Output(self.name, output))
