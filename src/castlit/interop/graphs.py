"""Backbones as graphs that run without castlit, or without torch: torch.export and ONNX."""

import io
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from castlit.utils.validation import InputError

INPUT, OUTPUTS = "images", ("features", "feature_map")


class PooledAndMap(nn.Module):
    """Gives a backbone's features (N, C), pooled over positions, and its feature map (N, C, h, w).

    Args:
        backbone: Maps images (N, 3, H, W) to a feature map.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both from images (N, 3, H, W), float32, normalised by ImageNet's mean and standard deviation."""
        feature_map: Tensor = self.backbone(images)
        return feature_map.mean((2, 3)), feature_map


def graph_bytes(backbone: nn.Module, format: str, size: int) -> tuple[bytes, bool]:
    """Trace a backbone, in evaluation mode, with ``torch.export``: the content of a file, for any number of images.

    Args:
        backbone: Maps images (N, 3, H, W) to a feature map.
        format: ``"onnx"``: input ``images``, outputs ``features`` and ``feature_map``. ``"pt2"``: for
            ``torch.export.load``.
        size: Side of the images in pixels; of all of them, if the backbone cannot be traced for every size.

    Returns:
        The content, and whether images may have any size.

    Raises:
        InputError: The backbone cannot be traced, or does not take images of this size; or onnxscript is missing.
    """
    if format == "onnx":
        _require_onnx()
    convert = _onnx if format == "onnx" else _pt2
    network = PooledAndMap(backbone).eval()
    images = torch.zeros(2, 3, size, size)
    reason: Exception | None = None
    with torch.no_grad():
        network(images)  # refuses a size in one line
        for any_size in (True, False):
            axes = dict.fromkeys((0, 2, 3) if any_size else (0,), Dim.DYNAMIC)
            try:
                program = torch.export.export(network, (images,), dynamic_shapes=(axes,))
                if not any_size or _agrees(program, network, size):
                    return convert(program), any_size
            except Exception as error:  # torch raises errors of many types for what it cannot trace
                reason = error
    raise InputError(f"format={format}: torch cannot trace this backbone ({str(reason).splitlines()[0]})") from reason


def _agrees(program: ExportedProgram, network: nn.Module, size: int) -> bool:
    """Whether the program computes the same as the network for images of another size."""
    images = torch.rand(3, 3, 2 * size, size)
    return all(
        torch.allclose(one, other, rtol=1e-3, atol=1e-4)
        for one, other in zip(program.module()(images), network(images), strict=True)
    )


def _require_onnx() -> None:
    if find_spec("onnxscript") is None:
        raise InputError('format=onnx needs onnx and onnxscript: pip install "castlit[onnx]"')


def _onnx(program: ExportedProgram) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own use of what torch deprecates
        made: Any = torch.onnx.export(program, input_names=[INPUT], output_names=list(OUTPUTS), verbose=False)
    content = made.model_proto
    _name_axes(content.graph)
    return bytes(content.SerializeToString())


def _name_axes(graph: Any) -> None:  # noqa: ANN401 - onnx is optional
    """Name the input's free axes batch, height and width, in place of torch's s34."""
    axes = zip(graph.input[0].type.tensor_type.shape.dim, ("batch", "channels", "height", "width"), strict=True)
    names = {axis.dim_param: name for axis, name in axes if axis.dim_param}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:  # other axes have a value, which assigning a name would remove
                for symbol, name in names.items():
                    axis.dim_param = axis.dim_param.replace(symbol, name)


def _pt2(program: ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()
