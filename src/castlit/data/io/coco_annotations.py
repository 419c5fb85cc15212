"""COCO's instance annotations as masks: everything annotated is salient."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.utils.validation import InputError


class AnnotationMasks:
    """The masks in a file like ``instances_train2017.json``: the union of all segmentations of an image, crowds too.

    Args:
        path: The JSON file.

    Raises:
        InputError: The file is missing, is no JSON, or lacks COCO's ``images`` and ``annotations``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = load_annotations(path)
        try:
            # By file name: an image's path does not contain its id.
            self._images = {image["file_name"]: image for image in content["images"]}
            self._segments: dict[Any, list[Any]] = defaultdict(list)
            for annotation in content["annotations"]:
                self._segments[annotation["image_id"]].append(annotation["segmentation"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path}: is not COCO's instance annotations: every image needs file_name, height, width and id, every "
                f"annotation image_id and segmentation ({type(error).__name__}: {error})"
            ) from None

    def mask(self, name: str) -> NDArray[np.uint8] | None:
        """The mask (h, w) uint8 of {0, 1} of the image ``name`` (its path, or the last part of it).

        Returns:
            The mask; None if the file does not list the image.

        Raises:
            SampleError: The segmentation is invalid.
        """
        image = self._images.get(name) or self._images.get(name.rpartition("/")[2])
        if image is None:
            return None
        try:
            height, width = int(image["height"]), int(image["width"])
            runs = [run for segment in self._segments[image["id"]] for run in run_lengths(segment, height, width)]
            if not runs:
                return np.zeros((height, width), np.uint8)
            return np.ascontiguousarray(coco_mask.decode(coco_mask.merge(runs)))
        except Exception as error:  # faster_coco_eval's C code raises many types
            raise SampleError(
                f"{self.path}: the segmentation of {name} is not COCO's ({type(error).__name__}: {error})"
            ) from None


def load_annotations(path: Path) -> dict[str, Any]:
    """Read a file of COCO's instance annotations.

    Raises:
        InputError: The file is missing, is no JSON, or lacks ``images`` or ``annotations``.
    """
    try:
        with path.open("rb") as file:
            content = json.load(file)
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
        ValueError: The run lengths do not have the image's size. faster_coco_eval raises other types for other faults.
    """
    if isinstance(segment, list):
        polygons = [polygon for polygon in segment if len(polygon) >= 6]  # fewer than three points enclose nothing
        return list(coco_mask.frPyObjects(polygons, height, width)) if polygons else []
    if list(segment["size"]) != [height, width]:
        raise ValueError(f"size {segment['size']} in an image of {[height, width]}")
    if isinstance(segment["counts"], list):
        if sum(segment["counts"]) != height * width:
            raise ValueError("the run lengths do not add up to the image")
        return [coco_mask.frPyObjects(segment, height, width)]
    counts = segment["counts"]
    return [{"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}]
