"""Write a backbone's weights in the format of torchvision, timm or detectron2."""

import io
import pickle
from pathlib import Path

import torch
from torch import nn

from castlit.interop.detectron2_names import COUNTER, to_detectron2
from castlit.interop.load import open_backbone
from castlit.interop.resnets import FAMILY, which_resnet
from castlit.nn.timm_backbones import PREFIX
from castlit.utils.atomic_write import write_atomic
from castlit.utils.validation import InputError, require_choice

FORMATS = ("torchvision", "timm", "detectron2")


def export(source: str | Path, target: str | Path, format: str = "torchvision", backbone: str | None = None) -> str:
    """Write the backbone of a checkpoint in the format of torchvision, timm or detectron2, without any head.

    ``torchvision`` and ``timm`` are state dicts (``torch.save``); ResNets have the same names in both, other backbones
    export to the library they are from. ``detectron2`` is for ResNets: a pickle of numpy arrays, ``{"model": ...,
    "matching_heuristics": True}``. The channels stay RGB, so detectron2 needs the settings ``INPUT.FORMAT RGB``,
    ``MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]``, ``MODEL.PIXEL_STD [58.395, 57.12, 57.375]``, and for torchvision's
    stride in the 3 × 3 convolution ``MODEL.RESNETS.STRIDE_IN_1X1 False``.

    Args:
        source: Any file that :func:`castlit.interop.open_backbone` reads.
        target: The file to write, atomically.
        format: One of :data:`FORMATS`.
        backbone: As in :func:`castlit.interop.open_backbone`.

    Returns:
        Instructions to read the file.

    Raises:
        InputError: The source cannot be read, or the format does not support the backbone.
        OSError: The target cannot be written.
    """
    require_choice("format", format, FORMATS)
    path = Path(target).expanduser()
    if path.is_dir():
        raise InputError(f"output={target} is a folder: name the file to write in it")
    network = open_backbone(source, backbone)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    resnet = which_resnet(state)
    from_timm = hasattr(network, "pretrained_cfg")  # which every timm model has
    # torchvision's ResNets have the same names in timm; others are of the library that made them.
    possible = FORMATS if resnet in FAMILY else ("timm",) if from_timm else ("torchvision",)
    if format not in possible:
        whose = f"a timm backbone ({PREFIX}...)" if from_timm else f"{resnet or 'a backbone'} with torchvision's names"
        raise InputError(f"format={format}: {source} is {whose}; use format={possible[0]}")
    if format == "detectron2":
        arrays = {to_detectron2(name): x.numpy() for name, x in state.items() if not name.endswith(COUNTER)}
        content = {"model": arrays, "__author__": "castlit", "matching_heuristics": True}
        data = pickle.dumps(content, protocol=4)
    else:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
    write_atomic(path, data)
    return _how_to_read(format, resnet, network)


def _how_to_read(format: str, resnet: str | None, network: nn.Module) -> str:
    if format == "detectron2":
        return (
            "set in detectron2: INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], "
            "MODEL.PIXEL_STD [58.395, 57.12, 57.375], MODEL.RESNETS.STRIDE_IN_1X1 False"
        )
    if format == "timm":
        return "timm: timm.create_model(NAME, num_classes=0), and its load_state_dict"
    return "torchvision: load_state_dict(..., strict=False) must miss only the classifier"
