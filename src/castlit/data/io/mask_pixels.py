"""The pixels of a mask file: levels, colours, or the numbers of a palette, as the file stores them."""

import io
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from castlit.data.io.errors import SampleError
from castlit.data.io.image_header import Encoded, is_jpeg, is_png, orientation
from castlit.data.io.images import decode

MAX_PIXELS = 2**30
"""Largest mask, as OpenCV's largest image: PIL's own limit is smaller."""

_TIFF = (b"II", b"MM")


class MaskPixels(NamedTuple):
    """What a mask file holds."""

    values: NDArray[Any]
    """(h, w) levels, or numbers of the palette; or (h, w, 3) RGB."""
    alpha: NDArray[Any] | None = None
    """(h, w), of the levels' full range; None if there is none, or nothing is transparent, or everything alike."""
    palette: NDArray[np.uint8] | None = None
    """(256, 3) RGB; ``values`` are its rows."""
    stretched: bool = False
    """Whether levels of fewer than 8 bits were stretched to 0 to 255."""
    lossy: bool = False
    """Whether the format changes levels."""
    orientation: int = 1
    """The EXIF orientation by which the pixels are still to be turned."""


def read_pixels(data: Encoded, name: str) -> MaskPixels:
    """Decode a mask file's bytes.

    Args:
        data: The file's bytes: an image, or ``.npy``.
        name: Its name in messages.

    Raises:
        SampleError: They are cut short, no image, or an array of another shape than (h, w).
    """
    if data[:6].tobytes() == b"\x93NUMPY":
        return MaskPixels(_array(data, name))
    if data[:2].tobytes() in _TIFF:
        return _by_opencv(data, name)  # turns it
    return _stored(data, name)._replace(orientation=orientation(data))


def _stored(data: Encoded, name: str) -> MaskPixels:
    if is_png(data) and data.size > 25:
        depth, colour_type = int(data[24]), int(data[25])
        if colour_type == 3:
            return _palette(data, name)
        if colour_type == 0:
            return _grey_png(data, name, depth)
    return _by_opencv(data, name)


def _by_opencv(data: Encoded, name: str) -> MaskPixels:
    pixels = decode(data, name, cv2.IMREAD_UNCHANGED)
    lossy = is_jpeg(data) or (data[8:12].tobytes() == b"WEBP" and b"VP8L" not in data.tobytes())
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        if data[:2].tobytes() in _TIFF:  # OpenCV drops the alpha channel of grey ones
            with_alpha = _alpha_of(data)
            if with_alpha is not None and with_alpha.shape == pixels.shape[:2]:
                return MaskPixels(_rgb(pixels), _varying(with_alpha))
        return MaskPixels(_rgb(pixels), lossy=lossy)
    if pixels.shape[2] != 4:
        raise SampleError(f"{name}: a mask must be grey or in colours, got {pixels.shape[2]} channels")
    return MaskPixels(_rgb(pixels[..., :3]), _varying(pixels[..., 3]), lossy=lossy)


def _rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """OpenCV's pixels with the channels as RGB; one channel if all are equal."""
    if pixels.ndim == 2:
        return pixels
    blue, green, red = (pixels[..., i] for i in range(3))
    if np.array_equal(blue, green) and np.array_equal(green, red):
        return np.ascontiguousarray(green)
    return np.ascontiguousarray(pixels[..., ::-1])


def _varying(alpha: NDArray[Any]) -> NDArray[Any] | None:
    """The alpha channel; None if no pixel is less than half as opaque as another: it shows no object."""
    return None if 2 * float(alpha.min()) > float(alpha.max()) or not alpha.any() else np.ascontiguousarray(alpha)


def _alpha_of(data: Encoded) -> NDArray[Any] | None:
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            return np.asarray(image.getchannel("A")) if "A" in image.getbands() else None
    except Exception:  # damage raises many types
        return None


def _grey_png(data: Encoded, name: str, depth: int) -> MaskPixels:
    pixels = _by_opencv(data, name)
    if depth <= 8 and b"tRNS" in data.tobytes():  # OpenCV ignores a transparent level
        with _png(data, name) as image:
            pixels = pixels._replace(alpha=_alpha(image))
    return pixels._replace(stretched=depth < 8)


def _palette(data: Encoded, name: str) -> MaskPixels:
    """OpenCV does not return the numbers of a palette."""
    with _png(data, name) as image:
        numbers = np.asarray(image, np.uint8)
        known = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(known)] = known
        return MaskPixels(numbers, _alpha(image), palette)


def _alpha(image: Image.Image) -> NDArray[Any] | None:
    """The alpha channel of an image with transparent levels or numbers."""
    return _varying(np.asarray(image.convert("RGBA").getchannel("A"))) if "transparency" in image.info else None


def _png(data: Encoded, name: str) -> PngImagePlugin.PngImageFile:
    """The loaded PNG; not by ``Image.open``, which refuses images that OpenCV reads."""
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data.data))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels")
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise SampleError(f"{name}: cannot be decoded ({error})") from None
    return image


def _array(data: Encoded, name: str) -> NDArray[Any]:
    try:
        values = np.load(io.BytesIO(data.data), allow_pickle=False)
    except Exception as error:  # a damaged header raises many types, such as those of Python's tokeniser
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SampleError(f"{name}: cannot be decoded ({reason})") from None
    if values.dtype.kind not in "biuf":
        raise SampleError(f"{name}: a mask must have numbers, got {values.dtype}")
    shape = values.shape
    if values.ndim == 3 and 1 in (shape[0], shape[2]):
        values = values.reshape(shape[1:] if shape[0] == 1 else shape[:2])
    if values.ndim != 2 or values.size == 0:
        raise SampleError(f"{name}: a mask must have the shape (height, width), got {shape}")
    return np.ascontiguousarray(values)
