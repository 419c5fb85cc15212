"""An encoder's feature map of an image, on a grid that is fine enough to cut."""

import threading
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from castlit.attention import find_layer, tap
from castlit.data.datamodules.datasets import normalise
from castlit.nn.attention_layer import default_layer
from castlit.saliency.algorithms.superpixels import Image
from castlit.saliency.spectral.settings import CELLS, LARGEST, MOST_CELLS
from castlit.utils.validation import InputError

MARGIN = 48
"""Pixels of reflected image around each image: as far as zero padding spoils the features of a small ResNet.

Without it, the cells at the border differ from all others, whatever the image shows, and the cuts part them off: LOST
pointed at an object in none of 100 images with one encoder, and in 61 with the margin.
"""

_NATIVE = (224, 256, 384, 299, 512, 64, 32)  # sides to try where a network takes one size only


# Threads share a network on a GPU, and a tap records the passes of all of them.
_ONE_AT_A_TIME = threading.Lock()


class _Entry(NamedTuple):
    """How images enter the network."""

    side: int
    """Longer side in pixels."""
    square: bool
    """Whether images are resized to a square, and not with their aspect ratio."""
    margin: int
    """Pixels of reflected image on each side."""


class CellFeatures:
    """Computes a layer's output for images: the features of their cells. Can be pickled for other processes.

    Args:
        network: Normalised images (N, 3, H, W) to feature maps; evaluation mode is the caller's to set.
        layer: The layer's name; None: the last one whose output is a feature map of more than one position.
        size: Longer side in pixels at which images enter; None: :data:`castlit.saliency.spectral.settings.CELLS` cells,
            at most :data:`castlit.saliency.spectral.settings.LARGEST` pixels.
        key: The settings' place in the configuration, for messages.
        square: For images that come as squares: the least side, and the least cells along it, where there is no size.

    Raises:
        InputError: There is no such layer, it gives no feature map, or the network does not take the size.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str | None = None,
        size: int | None = None,
        key: str = "spectral",
        square: tuple[int, int] | None = None,
    ) -> None:
        # A layer may be the backbone itself, which needs a name then.
        self.network = nn.ModuleDict({"backbone": network})
        if layer is None:
            layer = default_layer(network)
        try:
            find_layer(self.network, layer)
        except InputError as error:
            raise InputError(f"{key}.layer={layer}: {error}") from None
        self.layer = layer
        self.entry = self._entry(size, key, square)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """The features (C, h, w) of an upright image (H, W, 3) RGB."""
        entry = self.entry
        height, width = image.shape[:2]
        scale = entry.side / max(height, width)
        size = (entry.side, entry.side) if entry.square else (self._round(width * scale), self._round(height * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = np.ascontiguousarray(cv2.resize(image, size, interpolation=how))
        device = next(self.network.parameters()).device
        batch = normalise(torch.from_numpy(resized).to(device).permute(2, 0, 1)[None])
        with torch.no_grad():
            features = self.of_batch(batch)[0]
        return np.asarray(features.float().cpu().numpy(), np.float32)

    def of_batch(self, images: Tensor) -> Tensor:
        """The features (N, C, h, w) of normalised images (N, 3, H, W), at the size that they have."""
        return self._cells(images, self.entry.margin)

    def _cells(self, images: Tensor, margin: int) -> Tensor:
        down, across = (_reflected(side, margin).to(images.device) for side in images.shape[-2:])
        with _ONE_AT_A_TIME, tap(self.network, self.layer) as activations:
            self.network["backbone"](images[:, :, down][..., across] if margin else images)
        features = activations.first.detach()
        # The margin's cells are cut off, by their share of the sides.
        rows, columns = (
            round(cells * margin / (side + 2 * margin))
            for cells, side in zip(features.shape[-2:], images.shape[-2:], strict=True)
        )
        return features[:, :, rows : features.shape[2] - rows, columns : features.shape[3] - columns]

    def _round(self, pixels: float) -> int:
        """The nearest multiple of a cell's side, at least one cell."""
        return max(1, round(pixels / self._stride)) * self._stride

    def _entry(self, size: int | None, key: str, square: tuple[int, int] | None) -> _Entry:
        """Find out how images can enter, on blank ones."""
        modes = [(part, part.training) for part in self.network.modules()]
        self.network.eval()
        try:
            native, cells = self._native(key)
            self._stride = max(1, round(native / cells))
            margin = -(-MARGIN // self._stride) * self._stride if _pads_with_zeros(self.network) else 0
            if square is None:
                side = self._round(size or max(self._stride, min(CELLS * self._stride, LARGEST)))
                first = _Entry(side, False, margin)
            else:
                side = size or self._round(max(square[0], square[1] * self._stride))
                first = _Entry(side, True, margin)
            reason = ""
            for entry in (first, _Entry(size or native, True, 0)):
                found, reason = self._tried(entry, reason)
                if found > MOST_CELLS:
                    raise InputError(
                        f"{key}.size={size}: gives {found:,} cells of layer {self.layer}, whose pairs do not fit into "
                        f"memory; up to {MOST_CELLS:,} do: take a smaller size, or a later layer"
                    )
                if found:
                    return entry
            raise InputError(f"{key}.size={size}: the encoder does not accept it ({reason})")
        finally:
            for part, training in modes:
                part.training = training

    def _tried(self, entry: _Entry, reason: str) -> tuple[int, str]:
        """The largest number of cells of an image, or 0 and why there are none."""
        shapes = [(entry.side, entry.side)]
        if not entry.square:
            shapes.insert(0, (self._round(entry.side * 0.75), entry.side))
        try:
            cells = [self._blank(shape, entry.margin) for shape in shapes]
        except (RuntimeError, ValueError, AssertionError) as error:
            return 0, reason or (str(error) or type(error).__name__).splitlines()[0]
        return max(rows * columns for rows, columns in cells), reason

    def _native(self, key: str) -> tuple[int, int]:
        """A side that the network takes, and the number of cells along it."""
        reason = ""
        for side in _NATIVE:
            try:
                return side, max(self._blank((side, side), 0))
            except InputError as error:
                # The layer gives no feature map: another size does not change that.
                raise InputError(f"{key}.layer={self.layer}: {error}") from None
            except (RuntimeError, ValueError, AssertionError) as error:
                reason = reason or (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"the backbone takes no image of {_NATIVE[0]} px ({reason})")

    @torch.no_grad()
    def _blank(self, shape: tuple[int, int], margin: int) -> tuple[int, int]:
        """(h, w) of a blank image's features."""
        parameter = next(self.network.parameters())
        blank = torch.zeros(1, 3, *shape, device=parameter.device, dtype=parameter.dtype)
        found = self._cells(blank, margin).shape
        return found[2], found[3]


def _reflected(side: int, margin: int) -> Tensor:
    """The indices of a side's pixels with the margins, in which the image is mirrored, as often as needed."""
    return torch.from_numpy(np.pad(np.arange(side), margin, mode="reflect" if side > 1 else "edge"))


def _pads_with_zeros(network: nn.Module) -> bool:
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1 and part.padding not in (0, (0, 0), "valid"):
            return True
    return False
