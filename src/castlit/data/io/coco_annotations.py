"""COCO's instance annotations as masks: everything annotated is salient."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.folders import match_key
from castlit.utils.json_files import load_json
from castlit.utils.validation import InputError

MAX_PIXELS, MAX_SIDE = 2**30, 2**20
"""Largest image, as OpenCV's."""

_FAR = 10
"""Polygons may leave their image by this many times its size; the time to fill them grows with their coordinates."""

logger = logging.getLogger(__name__)


class AnnotationMasks:
    """The masks in a file like ``instances_train2017.json``: the union of all segmentations of an image, crowds too.

    Annotations without a segmentation are skipped, with a warning; so are images without a name or an id.

    Args:
        path: The JSON file.

    Raises:
        InputError: The file is missing, is no JSON, or its images and annotations are not COCO's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = load_annotations(path)
        images = [image for image in _dicts(content["images"]) if _is_listed(image)]
        annotations = [annotation for annotation in _dicts(content["annotations"]) if _is_segmented(annotation)]
        for key, found in (("images", images), ("annotations", annotations)):
            skipped = len(content[key]) - len(found) if isinstance(content[key], list) else 0
            if not found and content[key]:
                raise InputError(
                    f"{path}: is not COCO's instance annotations: every image needs file_name, height, width and id, "
                    "every annotation image_id and segmentation"
                )
            if skipped:
                logger.warning(
                    "%s: %d of %d %s are skipped: they lack %s", path, skipped, skipped + len(found), key, _NEEDS[key]
                )
        # By file name: an image's path does not contain its id.
        self._images: dict[str, dict[str, Any]] = {}
        self._reasons: dict[str, str] = {}  # why an image that is listed has no mask
        owners: dict[Any, str] = {}
        for image in images:
            key = match_key(image["file_name"])
            if self._images.get(key, image)["id"] != image["id"]:
                self._reasons[key] = "lists it twice, with different ids"
            owner = owners.setdefault(image["id"], key)
            if owner != key:
                self._reasons[key] = self._reasons[owner] = f"gives its id, {image['id']}, to two images"
            self._images[key] = image
        self._segments: dict[Any, list[Any]] = defaultdict(list)
        for annotation in annotations:
            self._segments[annotation["image_id"]].append(annotation["segmentation"])
        self._named: Counter[str] = Counter()
        self._ending: Counter[str] = Counter()

    def assign(self, names: Iterable[str]) -> None:
        """Tell which images there are: a name that may mean several of them is the name of none.

        Args:
            names: Their paths.
        """
        keys = [match_key(name) for name in names]
        self._named = Counter(key for key in keys if key in self._images)
        self._ending = Counter(_last(key) for key in keys if key not in self._images)

    def missing(self, name: str) -> str:
        """Why the image ``name`` (its path, or the last part of it) has no mask; empty if it has one."""
        key = match_key(name)
        listed = self._listed(key)
        if listed is None:
            return f"{self.path} does not list it"
        # An image with the listed path is the one; others only end like it.
        meant = self._named[listed] + (self._ending[listed] if listed != key else 0)
        if meant > 1:
            return f"{self.path} lists {self._images[listed]['file_name']}, which may be any of {meant} images"
        return f"{self.path} {self._reasons[listed]}" if listed in self._reasons else ""

    def mask(self, name: str) -> NDArray[np.uint8] | None:
        """The mask (h, w) uint8 of {0, 1} of the image ``name`` (its path, or the last part of it).

        Returns:
            The mask; None if the file does not list the image, or not unambiguously.

        Raises:
            SampleError: The segmentation is invalid.
        """
        listed = self._listed(match_key(name))
        if listed is None or self.missing(name):
            return None
        image = self._images[listed]
        try:
            height, width = image_shape(image)
            runs = [run for segment in self._segments[image["id"]] for run in run_lengths(segment, height, width)]
            if not runs:
                return np.zeros((height, width), np.uint8)
            return np.ascontiguousarray(coco_mask.decode(coco_mask.merge(runs)))
        except Exception as error:  # faster_coco_eval's C code raises many types
            raise SampleError(
                f"{self.path}: the segmentation of {name} is not COCO's ({type(error).__name__}: {error})"
            ) from None

    def _listed(self, key: str) -> str | None:
        return next((each for each in (key, _last(key)) if each in self._images), None)


_NEEDS = {"images": "file_name or id", "annotations": "image_id or segmentation"}


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _dicts(values: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _is_listed(image: dict[str, Any]) -> bool:
    return isinstance(image.get("file_name"), str) and isinstance(image.get("id"), (int, str))


def _is_segmented(annotation: dict[str, Any]) -> bool:
    return isinstance(annotation.get("image_id"), (int, str)) and annotation.get("segmentation") is not None


def image_shape(image: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of an entry of ``images``.

    Raises:
        KeyError: One is missing.
        TypeError, ValueError, OverflowError: One is no number, or out of range.
    """
    height, width = int(image["height"]), int(image["width"])
    if min(height, width) < 1 or max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise ValueError(f"height {height}, width {width}")
    return height, width


def load_annotations(path: Path) -> dict[str, Any]:
    """Read a file of COCO's instance annotations.

    Raises:
        InputError: The file is missing, is no JSON, or lacks ``images`` or ``annotations``.
    """
    try:
        content = load_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error})") from None
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise InputError(f"{path}: is not COCO's instance annotations: it needs the keys images and annotations")
    return content


def run_lengths(segment: Any, height: int, width: int) -> list[dict[str, Any]]:  # noqa: ANN401
    """Convert one segmentation (polygons, or run lengths, compressed or not) to compressed run lengths.

    Raises:
        ValueError: The run lengths do not have the image's size, or a coordinate is not finite or far from the image.
            faster_coco_eval raises other types for other faults.
    """
    if isinstance(segment, list):
        numbers = [np.asarray(polygon, np.float64) for polygon in segment if polygon is not None]
        if any(points.ndim != 1 or points.size in (1, 2) for points in numbers):
            raise ValueError("a polygon must be a list of numbers, x1, y1, x2, y2 and so on")  # no list of points
        # Fewer than three points enclose nothing.
        polygons = [polygon for polygon in segment if polygon is not None and len(polygon) >= 6]
        for points in numbers:
            for values, side in ((points[0::2], width), (points[1::2], height)):
                near = (values >= -_FAR * side) & (values <= (_FAR + 1) * side)  # not where NaN is
                if not near.all():
                    raise ValueError(f"a coordinate of {values[~near][0]:g} in an image of {width} x {height}")
        return list(coco_mask.frPyObjects(polygons, height, width)) if polygons else []
    if list(segment["size"]) != [height, width]:
        raise ValueError(f"size {segment['size']} in an image of {[height, width]}")
    if isinstance(segment["counts"], list):
        if sum(segment["counts"]) != height * width:
            raise ValueError("the run lengths do not add up to the image")
        return [coco_mask.frPyObjects(segment, height, width)]
    counts = segment["counts"]
    runs = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
    coco_mask.decode(runs)  # checks them, which merging several does not
    return [runs]
