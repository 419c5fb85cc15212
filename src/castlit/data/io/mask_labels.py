"""Masks whose levels are numbers of classes or objects, and how to tell them from grey ones."""

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import LabelMapError, SampleError
from castlit.data.io.mask_fit import Mask
from castlit.data.io.mask_levels import Levels
from castlit.data.io.mask_pixels import MaskPixels

VOID = 255
"""The number of "no label" in label maps, such as the outlines in PASCAL VOC; 65535 where numbers are larger."""

_VOID_COLOUR = (224, 224, 192)  # the same in PASCAL VOC's colours

_GREY = 16
"""Largest difference between the channels of a grey pixel; JPEGs change a few levels."""

_SOLID = 0.4
"""A level is solid if this fraction of its pixels, at least, is inside a region of that level."""

_FEW = 7
"""Fewer different levels say nothing on how similar neighbouring regions are."""

_STEP = 0.22
"""Mean step between neighbouring regions, as a fraction of the number of levels: up to 0.21 in most saliency maps of
superpixels and in means of several people's masks, from 0.29 in maps of COCO's classes and objects. Some methods' raw
maps have more (castlit's RBD up to 0.44): they are refused, and ``kind="levels"`` takes them."""

_WHITE = 0.9
"""Fraction of the full level that saliency maps reach."""

_CHANGED = 2  # JPEGs of good quality change a level in a region by less
_BLACK = 8  # and black, white
_FREQUENT = 0.02  # fraction of a map's pixels
_SOFT = 0.05  # fraction of pixels with other levels that makes a map soft

_NAMED = 5  # levels in a message


def by_number(pixels: MaskPixels, name: str) -> Mask:
    """(h, w) of {0, 1}: every number is salient but 0 (background) and 255 (no label); and every colour but black.

    Raises:
        SampleError: The numbers are negative or no whole numbers, or the file's format changes them.
    """
    values = pixels.values
    if pixels.lossy:
        raise SampleError(f"{name}: its format changes the numbers of a label map: save label maps as PNG")
    if values.ndim == 3 or values.dtype == np.bool_:
        return _opaque(by_colour(pixels, name), pixels)
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise SampleError(f"{name}: a label map must have numbers, got {values.dtype}")
    if np.issubdtype(values.dtype, np.floating) and not (np.isfinite(values).all() and (values % 1 == 0).all()):
        raise SampleError(f"{name}: a label map must have whole numbers")
    if values.min() < 0:
        raise SampleError(f"{name}: a label map must have numbers from 0, got {values.min()}")
    if pixels.stretched:  # fewer than 8 bits have no number 255
        return _opaque(np.asarray(values != 0, np.uint8), pixels)
    void = VOID if values.max() <= VOID else np.iinfo(np.uint16).max
    return _opaque(np.asarray((values != 0) & (values != void), np.uint8), pixels)


def by_colour(pixels: MaskPixels, name: str) -> Mask:
    """(h, w) of {0, 1}: every colour is salient but black and VOC's (224, 224, 192), and nothing that is transparent.

    Raises:
        SampleError: The file's format changes colours.
    """
    if pixels.lossy:
        raise SampleError(f"{name}: its format changes the colours of a label map: save label maps as PNG")
    values = pixels.values if pixels.palette is None else pixels.palette[pixels.values]
    if values.ndim == 2:
        return _opaque(np.asarray(values != 0, np.uint8), pixels)
    salient = (values != 0).any(2) & (values != _VOID_COLOUR).any(2)
    return _opaque(np.asarray(salient, np.uint8), pixels)


def _opaque(mask: Mask, pixels: MaskPixels) -> Mask:
    return mask if pixels.alpha is None else mask * np.asarray(pixels.alpha != 0, np.uint8)


def has_label_palette(pixels: MaskPixels, name: str) -> bool:
    """Whether this is a palette of colours whose first one, black, is the background: certainly a label map.

    Raises:
        LabelMapError: It has another palette of colours, or colours without a palette.
    """
    if pixels.alpha is not None:
        return False
    if pixels.palette is None:
        if pixels.values.ndim == 3 and _coloured(pixels.values):
            raise LabelMapError(
                f"{name}: a label map, since it has colours: set mask_kind=colours if every colour but black is an "
                "object, mask_kind=levels if brighter is more salient"
            )
        return False
    used = np.unique(pixels.values)
    colours = pixels.palette[used]
    if not _coloured(colours) and (len(used) == 1 or (colours != colours[0]).any()):
        return False
    black = used[(colours == 0).all(1)]
    if not pixels.palette[0].any() and not np.setdiff1d(black, (0, VOID)).size:
        return True
    raise LabelMapError(
        f"{name}: a label map whose palette does not tell the background, since its number 0 is not the only black "
        "one: set mask_kind=labels if number 0 is the background, mask_kind=colours if black is"
    )


def refuse_labels(levels: Levels, name: str, threshold: float, lossy: bool = False) -> None:
    """Check that levels are grey.

    Args:
        levels: The levels.
        name: The mask's name in messages.
        threshold: As in :func:`castlit.data.io.masks.decode_mask`.
        lossy: Whether their file's format changes levels.

    Raises:
        LabelMapError: They look like numbers of classes or objects.
    """
    if np.issubdtype(levels.values.dtype, np.integer) and levels.full > 1:
        values = few_levels(levels.values) if lossy else levels.values
        found = _numbers(values, levels.cut(threshold), levels.full)
        if found is not None:
            shown = ", ".join(map(str, found[:_NAMED])) + (" ..." if len(found) > _NAMED else "")
            raise LabelMapError(
                f"{name}: a label map, since its levels {shown} are neither black and white nor soft: set "
                "mask_kind=labels if they are numbers of classes or objects, mask_kind=levels if brighter is more "
                "salient"
            )


def _coloured(colours: NDArray[np.integer]) -> bool:
    """Whether any of these (..., 3) is no grey."""
    if np.issubdtype(colours.dtype, np.signedinteger):
        colours = colours.astype(np.int64)  # differences of int8 need not fit into int8
    red, green, blue = (colours[..., i] for i in range(3))
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    full = 1 if high.max() <= 1 else 65535 if colours.dtype == np.uint16 else 255
    return bool((high - low > _GREY / 255 * full).any())


def _numbers(levels: NDArray[np.integer], cut: int, full: int) -> NDArray[np.int64] | None:
    """The levels (h, w) in a map, if they are numbers of classes or objects; None if they are grey.

    In label maps every level fills regions. In soft maps, and in masks that were resized, blurred or JPEGs, most levels
    between black and white do not. Some grey maps have regions, too:

    - Those of two levels of which one is salient, such as 0 and 200; but 13 and 255 are a class and "no label". And
      those of which all is salient.
    - Saliency maps of superpixels, and means of several people's masks: neighbouring regions have similar levels.
    """
    counts = np.bincount(levels.ravel())
    found = np.flatnonzero(counts)
    low, high = int(found[0]), int(found[-1])
    if len(found) == 1 or low > cut or (len(found) == 2 and cut < high and (low == 0 or high != full)):
        return None
    between = found[(found > 0) & (found < full)]
    if len(between) == 0:
        return None
    inside = np.bincount(levels[_inside(levels)], minlength=len(counts))
    if np.mean(inside[between] >= _SOLID * counts[between]) < 0.5:
        return None
    soft = len(found) >= _FEW and high >= _WHITE * full and _step(levels, found) <= _STEP
    return None if soft else found


def few_levels(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo a JPEG's changes to levels (h, w): each becomes the nearest of the frequent ones.

    Levels that are not around a few frequent ones are soft; they stay.
    """
    left = np.bincount(levels.ravel(), minlength=256).astype(np.float64) / levels.size
    frequent: list[int] = []
    while (around := np.convolve(left, np.ones(2 * _CHANGED + 1), "same")).max() >= _FREQUENT:
        peak = int(around.argmax())
        frequent.append(0 if peak <= _BLACK else 255 if peak >= 255 - _BLACK else peak)
        left[max(peak - _CHANGED, 0) : peak + _CHANGED + 1] = 0
    if not frequent or left.sum() > _SOFT:
        return levels
    known = np.unique(frequent)
    nearest = known[np.abs(np.arange(256)[:, None] - known).argmin(1)]
    return np.asarray(nearest[levels], np.uint8)


def _inside(levels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(h, w): whether at least three of a pixel's four neighbours have its level; neighbours outside count."""
    same = np.full(levels.shape, 4, np.uint8)
    across, down = levels[:, 1:] != levels[:, :-1], levels[1:] != levels[:-1]
    same[:, 1:] -= across
    same[:, :-1] -= across
    same[1:] -= down
    same[:-1] -= down
    return same >= 3


def _step(levels: NDArray[np.integer], found: NDArray[np.int64]) -> float:
    """Mean step between neighbouring pixels that differ, in [0, 1], as if the levels found were equidistant."""
    ranks = np.zeros(int(found[-1]) + 1, np.int32)
    ranks[found] = np.arange(len(found))
    steps = np.concatenate([np.abs(np.diff(ranks[levels], axis=axis)).ravel() for axis in (0, 1)])
    return float(steps[steps > 0].mean()) / (len(found) - 1)
