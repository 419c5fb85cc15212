"""Pseudo-labels: handcrafted maps of the training images, and their refinement between rounds."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.images import read_image
from castlit.saliency.algorithms.refine import crf
from castlit.saliency.algorithms.registry import HANDCRAFTED, shrink
from castlit.saliency.algorithms.superpixels import Image, Map
from castlit.saliency.deepusps.rows import Rows
from castlit.utils.process_pool import in_processes
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError

UNUSABLE = 2
"""Flag of an image that cannot be read, or in which no method finds anything."""

CRF_SIDE = 48
"""Side at which a prediction's CRF is solved between rounds: a third of the full grid's cost."""

_LATER = ("castlit.saliency.deepusps.network", "castlit.saliency.deepusps.predictor")
"""What processes import that apply the trained network, torch included: once for all, not in each of them."""

Levels = NDArray[np.uint8]


class PseudoLabels(NamedTuple):
    """Training images and their maps."""

    images: Levels
    """(N, S, S, 3) RGB."""
    maps: Levels
    """(N, K, S, S), one for each method; 255 is salient."""
    usable: NDArray[np.intp]
    """Indices of the images that can be learned from."""


def make_pseudo_labels(
    paths: Sequence[Path], folder: Path, methods: Sequence[str], size: int, workers: int
) -> PseudoLabels:
    """Make the missing maps and store them in ``folder``.

    Args:
        paths: N images.
        folder: For the files ``images`` and ``maps``; maps that exist there are not made again.
        methods: K names of :data:`castlit.saliency.algorithms.registry.HANDCRAFTED`.
        size: S, the side in pixels of the squares that images are resized to.
        workers: Processes; 0 works in this process.

    Raises:
        InputError: No image can be learned from.
    """
    images = Rows(folder / "images", len(paths), (size, size, 3))
    maps = Rows(folder / "maps", len(paths), (len(methods), size, size))
    missing = maps.missing
    work = functools.partial(_label, tuple(methods), size)
    died = functools.partial(_Labelled, image=None, maps=None)
    items = ((number, str(paths[number])) for number in missing)
    with ProgressLog("Making pseudo-labels", len(missing)) as log:
        processes = in_processes(work, items, min(workers, len(missing)), lambda item: died(item[0]), _LATER)
        for label in processes:
            if label.image is None or label.maps is None:
                maps.put(label.number, np.zeros(maps.shape[1:], np.uint8), UNUSABLE)
            else:
                images.put(label.number, label.image)
                maps.put(label.number, label.maps)
            log.advance()
    usable = np.flatnonzero(maps.flags == 1)
    if not len(usable):
        raise InputError(
            f"deepusps has nothing to learn from: none of {len(paths)} images can be read and shows anything"
        )
    return PseudoLabels(images.values, maps.values, usable)


def discretise(levels: Levels) -> Levels:
    """Threshold a map (S, S) to 0 and 255 at its Otsu threshold (Otsu, 1979).

    The paper's code has a constant for each method, found with labels. Otsu's threshold needs none and adapts to the
    map's contrast.
    """
    return np.asarray(cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1], np.uint8)


def refine_targets(
    title: str, old: Levels, images: Levels, predictions: Iterator[Map], new: Rows, momentum: float, workers: int
) -> None:
    """Average targets with the predictions of a network trained on them: m · old + (1 - m) · CRF(prediction).

    Args:
        title: Title of the progress bar.
        old: (N, S, S).
        images: (N, S, S, 3).
        predictions: (s, s) in [0, 1], for the targets that are missing in ``new``, in order.
        new: Receives the new targets.
        momentum: m, in [0, 1].
        workers: Processes; 0 works in this process.
    """
    missing = new.missing
    items = ((old[number], images[number], values) for number, values in zip(missing, predictions, strict=True))
    work = functools.partial(_average, momentum)
    results = in_processes(work, items, min(workers, len(missing)), lambda item: item[0], _LATER)
    with ProgressLog(title, len(missing)) as log:
        for number, target in zip(missing, results, strict=True):
            new.put(number, target)
            log.advance()


class _Labelled(NamedTuple):
    number: int
    image: Levels | None
    maps: Levels | None


def _label(methods: tuple[str, ...], size: int, item: tuple[int, str]) -> _Labelled:
    number, path = item
    try:
        image = shrink(read_image(path))
        maps = np.stack([_square(_levels(HANDCRAFTED[method](image)), size) for method in methods])
    except (SampleError, MemoryError):
        return _Labelled(number, None, None)
    return _Labelled(number, _square(image, size), maps) if maps.any() else _Labelled(number, None, None)


def _average(momentum: float, item: tuple[Levels, Image, Map]) -> Levels:
    old, image, prediction = item
    side = min(CRF_SIDE, len(image))
    refined = crf(_square(image, side), _square(prediction, side))
    return moving_average(old, _square(refined, len(old)), momentum)


def moving_average(old: Levels, new: Map, momentum: float) -> Levels:
    """Return m · old + (1 - m) · new, as levels; ``new`` is in [0, 1]."""
    return _levels(momentum * (old / np.float32(255)) + (1 - momentum) * new)


def _levels(values: Map) -> Levels:
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)


def _square(values: NDArray[Any], size: int) -> NDArray[Any]:
    how = cv2.INTER_AREA if max(values.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, (size, size), interpolation=how))
