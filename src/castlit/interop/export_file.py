"""Write a backbone for torchvision, timm, detectron2, safetensors, the Hugging Face hub, ONNX or torch.export."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from castlit.interop.detectron2_names import COUNTER, to_detectron2
from castlit.interop.graphs import graph_bytes
from castlit.interop.hub_folders import CONFIG, OWN_RESNETS, WEIGHTS, config_bytes, timm_folder, transformers_folder
from castlit.interop.load import open_backbone
from castlit.interop.resnets import FAMILY, which_resnet
from castlit.nn.timm_backbones import PREFIX
from castlit.utils.atomic_write import write_atomic
from castlit.utils.validation import InputError, require_choice, require_int

FORMATS = ("torchvision", "timm", "safetensors", "detectron2", "hf", "transformers", "onnx", "pt2")
GRAPHS = ("onnx", "pt2")
"""The formats that hold the network itself, beside its weights."""

FOLDERS = ("hf", "transformers")
"""The formats that are folders."""

SUFFIXES = {
    ".pth": ("torchvision", "timm"),
    ".safetensors": ("safetensors",),
    ".pkl": ("detectron2",),
    ".onnx": ("onnx",),
    ".pt2": ("pt2",),
}
"""The formats of a file's suffix, by which other programs tell what is in it; with others, a file may have any."""


def export(
    source: str | Path,
    target: str | Path,
    format: str = "torchvision",
    backbone: str | None = None,
    size: int = 224,
) -> str:
    """Write the backbone of a checkpoint in the format of another library, without any head.

    ``torchvision`` and ``timm`` are state dicts (``torch.save``); ResNets have the same names in both, other backbones
    export to the library they are from. ``safetensors`` has the same weights under the same names, and holds no pickle.

    ``hf`` is a folder as timm's models have on the Hugging Face hub: ``model.safetensors`` by timm's names and a
    ``config.json``. timm loads it, and so does Transformers where timm is installed. ``transformers`` is a folder for
    Transformers' own ``ResNetModel``, which needs no timm; for ResNets of 18 to 152 layers.

    ``detectron2`` is for ResNets: a pickle of numpy arrays, ``{"model": ..., "matching_heuristics": True}``. The
    channels stay RGB, so detectron2 needs the settings ``INPUT.FORMAT RGB``, ``MODEL.PIXEL_MEAN [123.675, 116.28,
    103.53]``, ``MODEL.PIXEL_STD [58.395, 57.12, 57.375]``, and for torchvision's stride in the 3 × 3 convolution
    ``MODEL.RESNETS.STRIDE_IN_1X1 False``.

    ``onnx`` and ``pt2`` (``torch.export``) are the network itself, which runs without castlit. Its input ``images`` is
    (N, 3, H, W), float32, normalised by ImageNet's mean and standard deviation; its outputs are ``features`` (N, C),
    pooled, and ``feature_map`` (N, C, h, w).

    Args:
        source: Any file that :func:`castlit.interop.open_backbone` reads.
        target: The file to write, atomically; for ``hf`` and ``transformers`` the folder.
        format: One of :data:`FORMATS`.
        backbone: As in :func:`castlit.interop.open_backbone`.
        size: Side of the images in pixels, for ``onnx`` and ``pt2`` of backbones that are traced for one size, such as
            vision transformers. Convolutional ones take any size.

    Returns:
        Instructions to read the file.

    Raises:
        InputError: The source cannot be read, the format does not support the backbone, or the target's suffix is that
            of another format.
        OSError: The target cannot be written.
    """
    require_choice("format", format, FORMATS)
    path = Path(target).expanduser()
    others = SUFFIXES.get(path.suffix.lower(), (format,))
    if format not in others:
        raise InputError(
            f"output={target}: that suffix is of format={others[0]}, and format is {format}: add format={others[0]}, "
            "or choose another name"
        )
    if format not in FOLDERS and path.is_dir():
        raise InputError(f"output={target} is a folder: name the file to write in it")
    if path.is_file() and Path(source).expanduser().is_file() and path.samefile(Path(source).expanduser()):
        raise InputError(f"output={target} is the checkpoint itself, which would be lost: name another file")
    if format in FOLDERS and path.is_file():
        raise InputError(f"output={target} is a file: format={format} writes a folder")
    network = open_backbone(source, backbone)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    resnet = which_resnet(state)
    _require_supported(format, str(source), network, resnet)
    if format in GRAPHS:
        content, any_size = graph_bytes(network, format, require_int("size", size, 1))
        write_atomic(path, content)
        reader = (
            f"onnxruntime.InferenceSession('{path}')" if format == "onnx" else f"torch.export.load('{path}').module()"
        )
        sizes = "any size" if any_size else f"{size} x {size} px"
        return f"{reader}: images of {sizes}, outputs features and feature_map"
    if format == "detectron2":
        arrays = {to_detectron2(name): x.numpy() for name, x in state.items() if not name.endswith(COUNTER)}
        weights = {"model": arrays, "__author__": "castlit", "matching_heuristics": True}
        write_atomic(path, pickle.dumps(weights, protocol=4))
        return (
            "detectron2, with the settings INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], "
            "MODEL.PIXEL_STD [58.395, 57.12, 57.375], MODEL.RESNETS.STRIDE_IN_1X1 False"
        )
    if format == "hf":
        name = str(network.pretrained_cfg["architecture"] if _from_timm(network) else resnet)  # type: ignore[index]
        state, config, initial = timm_folder(name, state)
        _write_folder(path, state, config)
        note = f" ({', '.join(initial)}, behind the features, are untrained)" if initial else ""
        return f"timm: timm.create_model('local-dir:{path}', pretrained=True), and AutoModel of Transformers{note}"
    if format == "transformers":
        _write_folder(path, *transformers_folder(state))
        return f"Transformers: AutoModel.from_pretrained('{path}')"
    if format == "safetensors":
        write_atomic(path, _safetensors(state))
        return "safetensors: safetensors.torch.load_file(...), and load_state_dict"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())
    if format == "timm":
        return "timm: timm.create_model(NAME, num_classes=0), and its load_state_dict"
    return "torchvision: load_state_dict(..., strict=False) must miss only the classifier"


def _require_supported(format: str, source: str, network: nn.Module, resnet: str | None) -> None:
    """Refuse a format that has no such network."""
    from_timm = _from_timm(network)
    if resnet in FAMILY:  # whose names are the same in torchvision and timm
        possible = tuple(name for name in FORMATS if name != "transformers" or resnet in OWN_RESNETS)
    else:
        possible = (*(("timm", "hf", "safetensors") if from_timm else ("torchvision", "safetensors")), *GRAPHS)
    if format not in possible:
        whose = f"a timm backbone ({PREFIX}...)" if from_timm else f"{resnet or 'a backbone'} with torchvision's names"
        other = "hf" if format == "transformers" and "hf" in possible else possible[0]
        raise InputError(f"format={format}: {source} is {whose}; use format={other}")


def _from_timm(network: nn.Module) -> bool:
    return hasattr(network, "pretrained_cfg")  # which every timm model has


def _safetensors(state: Mapping[str, Tensor]) -> bytes:
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise InputError('this format needs safetensors, which comes with pip install "castlit[timm]"') from error
    return save(dict(state), metadata={"format": "pt"})


def _write_folder(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    content = _safetensors(state)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / WEIGHTS, content)
    write_atomic(folder / CONFIG, config_bytes(config))
