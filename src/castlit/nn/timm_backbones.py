"""The models of timm (Wightman, PyTorch Image Models) as backbones, under timm's parameter names."""

from typing import Any

from torch import nn

from castlit.nn.features_only import FeaturesOnly, end_at_features
from castlit.utils.validation import InputError, did_you_mean

PREFIX = "timm/"


def build_timm(backbone: str) -> nn.Module:
    """Build a model of timm that maps images (N, 3, H, W) to a feature map (N, C, h, w); no weights are downloaded.

    The map is the output of timm's ``forward_features``: for a ViT the patch tokens folded to their grid, without
    class, distillation and register tokens; for a Swin, channels first. ViTs and Swins accept all image sizes that
    their patches divide: position embeddings keep their size, so weights load, and are interpolated in each pass. Parts
    behind the features, such as the classifier and a norm after the pooling, are removed.

    Args:
        backbone: ``"timm/"`` and a name from ``timm.list_models()``.

    Raises:
        InputError: timm is not installed, has no such model, or the model has no feature map.
    """
    timm = _timm(backbone)
    name = backbone.removeprefix(PREFIX)
    # This refuses names such as "hf-hub:...", for which timm would use the network.
    if not timm.is_model(name):
        raise InputError(f"backbone {backbone!r}: timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    model = _created(timm, name)
    tokens = [token for token in ("cls_token", "dist_token") if getattr(model, token, None) is not None]
    height, width = model.pretrained_cfg.get("input_size", (3, 224, 224))[1:]
    return end_at_features(
        FeaturesOnly(model, backbone, (height, width)),
        prefix=getattr(model, "num_prefix_tokens", len(tokens)),
        channels_last=getattr(model, "output_fmt", "NCHW") == "NHWC",
    )


def _created(timm: Any, name: str) -> Any:  # noqa: ANN401 - timm is optional
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    except TypeError:
        pass  # No such argument: convolutional networks accept any size, other models one size only.
    return timm.create_model(name, pretrained=False, num_classes=0)


def _timm(backbone: str) -> Any:  # noqa: ANN401
    try:
        import timm
    except ImportError as error:
        raise InputError(f'backbone {backbone!r} needs timm: pip install "castlit[timm]"') from error
    return timm
