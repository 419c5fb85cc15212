"""Write a backbone's weights as others read them."""

import io
import pickle
from pathlib import Path

import torch
from torch import nn

from castlit.interop.detectron2_names import COUNTER, to_detectron2
from castlit.interop.loading import open_backbone
from castlit.interop.resnets import FAMILY, which_resnet
from castlit.nn.timm_backbones import PREFIX
from castlit.utils.atomic_write import write_whole
from castlit.utils.validation import InputError, require_choice

FORMATS = ("torchvision", "timm", "detectron2")


def export(source: str | Path, target: str | Path, format: str = "torchvision", backbone: str | None = None) -> str:
    """Write the backbone of a checkpoint as torchvision, timm or detectron2 read it, without any head.

    ``torchvision`` and ``timm`` are state dicts (``torch.save``); ResNets have the same names in both, and other
    backbones go to where they come from. ``detectron2`` is for ResNets: a pickle of numpy arrays, ``{"model": ...,
    "matching_heuristics": True}``. The channels stay RGB, and detectron2 must be told so: ``INPUT.FORMAT RGB``,
    ``MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]``, ``MODEL.PIXEL_STD [58.395, 57.12, 57.375]``, and torchvision's
    place of the stride: ``MODEL.RESNETS.STRIDE_IN_1X1 False``.

    Args:
        source: Any file that :func:`castlit.interop.open_backbone` takes.
        target: The file to write; it is whole or not there.
        format: One of :data:`FORMATS`.
        backbone: As in :func:`castlit.interop.open_backbone`.

    Returns:
        In words, how to read the file.

    Raises:
        InputError: The source does not open, or the backbone has no names in that format.
        OSError: The target cannot be written.
    """
    require_choice("format", format, FORMATS)
    place = Path(target).expanduser()
    if place.is_dir():
        raise InputError(f"output={target} is a folder: name the file to write in it")
    network = open_backbone(source, backbone)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    resnet = which_resnet(state)
    timms = hasattr(network, "pretrained_cfg")  # as every model of timm has
    if format == "detectron2" and resnet not in FAMILY:
        raise InputError(f"format=detectron2 is for ResNets, which {source} is not: take torchvision or timm")
    if format == "timm" and not timms and resnet not in FAMILY:
        raise InputError(f"format=timm: {source} is a backbone that timm has not; take torchvision")
    if format == "torchvision" and timms and resnet not in FAMILY:
        raise InputError(f"format=torchvision: {source} is a backbone of timm's ({PREFIX}...); take format=timm")
    if format == "detectron2":
        arrays = {to_detectron2(name): x.numpy() for name, x in state.items() if not name.endswith(COUNTER)}
        content = {"model": arrays, "__author__": "castlit", "matching_heuristics": True}
        data = pickle.dumps(content, protocol=4)
    else:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
    write_whole(place, data)
    return _how_to_read(format, resnet, network)


def _how_to_read(format: str, resnet: str | None, network: nn.Module) -> str:
    if format == "detectron2":
        return (
            "detectron2 must be told: INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], "
            "MODEL.PIXEL_STD [58.395, 57.12, 57.375], MODEL.RESNETS.STRIDE_IN_1X1 False"
        )
    if format == "timm":
        return "timm: timm.create_model(NAME, num_classes=0), and its load_state_dict"
    return "torchvision: load_state_dict(..., strict=False) must miss the classifier only"
