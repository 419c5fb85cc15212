"""Folders as the Hugging Face hub has them: ``model.safetensors`` and a ``config.json`` that says what it is."""

import json
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from castlit.interop.detectron2_names import COUNTER
from castlit.utils.validation import InputError

WEIGHTS, CONFIG = "model.safetensors", "config.json"

OWN_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""The networks of Transformers' own ResNet class, which has no groups and no wide blocks."""

# What timm reads of a pretrained_cfg, but the source, the tag and the licence, which are another checkpoint's.
_TIMM_KEYS = (
    *("input_size", "fixed_input_size", "pool_size", "interpolation", "crop_pct", "crop_mode"),
    *("first_conv", "classifier"),
)


def timm_folder(name: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """A backbone as timm's models are on the hub: timm loads it, and Transformers, as it does those, with timm.

    Args:
        name: timm's name of the network.
        state: Its weights, up to its features.

    Returns:
        All weights that timm's network has without a classifier; the config; and the names of those weights that lie
        behind the features, are not in ``state``, and are therefore timm's initial ones.
    """
    timm = _timm()
    network = timm.create_model(name, num_classes=0)
    missing = network.load_state_dict(state, strict=False).missing_keys
    known = network.pretrained_cfg
    pretrained = {
        **{key: known[key] for key in _TIMM_KEYS if known.get(key) is not None},
        # castlit's, whatever timm's checkpoints of this network have.
        "mean": list(timm.data.IMAGENET_DEFAULT_MEAN),
        "std": list(timm.data.IMAGENET_DEFAULT_STD),
        "num_classes": 0,
    }
    config = {
        "architecture": name,
        "num_classes": 0,
        "num_features": network.num_features,
        "pretrained_cfg": pretrained,
    }
    full = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    return full, config, [key for key in missing if not key.endswith(COUNTER)]


def _timm() -> Any:  # noqa: ANN401 - timm is optional
    try:
        import timm.data
    except ImportError as error:
        raise InputError('format=hf needs timm: pip install "castlit[timm]"') from error
    return timm


def transformers_folder(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A ResNet by the names of Transformers' ``ResNetModel``, and its config; only Transformers loads it.

    Args:
        state: The weights of one of :data:`OWN_RESNETS`, by torchvision's names.
    """
    basic = "layer1.0.conv3.weight" not in state
    last = "conv2" if basic else "conv3"
    stages = [[name for name in state if re.fullmatch(rf"layer{n}\.\d+\.{last}\.weight", name)] for n in (1, 2, 3, 4)]
    config = {
        "architectures": ["ResNetModel"],
        "model_type": "resnet",
        "num_channels": 3,
        "embedding_size": state["conv1.weight"].shape[0],
        "hidden_sizes": [state[names[0]].shape[0] for names in stages],
        "depths": [len(names) for names in stages],
        "layer_type": "basic" if basic else "bottleneck",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,  # torchvision strides in the 3 × 3 convolution
    }
    return {to_transformers(name): value for name, value in state.items()}, config


def to_transformers(name: str) -> str:
    """``layer1.0.bn2.bias`` to ``encoder.stages.0.layers.0.layer.1.normalization.bias``."""
    kinds = {"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}
    stem = re.fullmatch(r"(conv|bn)1\.(\w+)", name)
    if stem is not None:
        return f"embedder.embedder.{kinds[stem[1]]}.{stem[2]}"
    stage, block, rest = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", name).groups()  # type: ignore[union-attr]
    rest = re.sub(r"^downsample\.([01])\.", lambda m: f"shortcut.{kinds[m[1]]}.", rest)
    rest = re.sub(r"^(conv|bn)(\d)\.", lambda m: f"layer.{int(m[2]) - 1}.{kinds[m[1]]}.", rest)
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{rest}"


def config_bytes(config: Mapping[str, Any]) -> bytes:
    """The content of ``config.json``."""
    return (json.dumps(config, indent=2) + "\n").encode()
