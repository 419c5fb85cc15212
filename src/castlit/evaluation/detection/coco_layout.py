"""COCO's layout: ``annotations/instances_train2017.json`` and the folders of images beside it."""

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from castlit.data.io.coco_annotations import image_shape, load_annotations, run_lengths
from castlit.data.io.errors import SampleError
from castlit.evaluation.detection.records import Annotated, Annotations
from castlit.utils.inside import require_inside
from castlit.utils.validation import InputError, require_path


def read_coco(root: str | Path | None, train: str = "train2017", test: str = "val2017") -> Annotations:
    """Read boxes and segmentations of two splits.

    Crowds are not learnt, and ignored in the test, as COCO does. Objects with an empty box are not learnt.

    Args:
        root: Holds ``annotations/instances_<split>.json`` and a folder of images for each split.
        train: The split to train on.
        test: The split to test on.

    Raises:
        InputError: A file, folder or image is missing, or a file is not COCO's.
    """
    if root is None:
        raise InputError(f"data.root is missing: give COCO's folder, with annotations, {train} and {test}")
    folder = require_path("data.root", root)
    if not folder.is_dir():
        raise InputError(f"data.root={root}: no such folder; give COCO's, with annotations, {train} and {test}")
    contents = {}
    for split in (train, test):
        file = folder / "annotations" / f"instances_{split}.json"
        if not file.is_file():
            raise InputError(f"{file} is missing: give data.root=, COCO's folder, or choose other splits")
        if not (folder / split).is_dir():
            raise InputError(f"{folder / split} is missing: the images of {file.name} belong there")
        contents[split] = (file, load_annotations(file))
    categories, of_test = (_categories(*contents[split]) for split in (train, test))
    for number, category in of_test.items():
        if categories.get(number, category) != category:
            raise InputError(
                f"{contents[test][0]}: category {number} is {category}, but {categories[number]} in "
                f"{contents[train][0].name}: number them alike"
            )
    numbers = {number: place + 1 for place, number in enumerate(categories)}
    records = [_records(*contents[split], folder / split, numbers) for split in (train, test)]
    for record in records[1]:
        object_masks(record)  # Find broken ones now, not after days of training.
    return Annotations(records[0], records[1], list(categories.values()))


def object_mask(segment: Any, height: int, width: int) -> NDArray[np.uint8]:  # noqa: ANN401
    """Decode one segmentation (polygons or run lengths, compressed or not) into a mask (height, width) of {0, 1}."""
    runs = run_lengths(segment, height, width)
    return np.asarray(coco_mask.decode(coco_mask.merge(runs))) if runs else np.zeros((height, width), np.uint8)


def object_masks(record: Annotated) -> NDArray[np.uint8]:
    """Decode the masks (n, height, width) of {0, 1} of an image's objects.

    Raises:
        SampleError: A segmentation is invalid.
    """
    try:
        masks = [object_mask(segment, record.height, record.width) for segment in record.segments or ()]
    except Exception as error:  # the library's C code raises many types
        raise SampleError(
            f"{record.path}: a segmentation of this image is not COCO's ({type(error).__name__}: {error})"
        ) from None
    return np.stack(masks) if masks else np.zeros((0, record.height, record.width), np.uint8)


def _categories(file: Path, content: dict[str, Any]) -> dict[int, str]:
    """Category names by id, sorted by id."""
    try:
        found = {int(category["id"]): str(category["name"]) for category in content["categories"]}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{file}: its categories need id and name ({type(error).__name__}: {error})") from None
    if not found:
        raise InputError(f"{file}: lists no categories")
    return dict(sorted(found.items()))


def _records(file: Path, content: dict[str, Any], images: Path, numbers: dict[int, int]) -> list[Annotated]:
    objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    try:
        for annotation in content["annotations"]:
            objects[annotation["image_id"]].append(annotation)
        ids = [image["id"] for image in content["images"]]
        records = [_record(image, objects.pop(image["id"], []), images, numbers) for image in content["images"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{file}: is not COCO's instance annotations: every image needs file_name, height, width and id, every "
            f"annotation image_id, category_id, bbox and segmentation ({type(error).__name__}: {error})"
        ) from None
    try:
        for image in content["images"]:
            require_inside(image["file_name"])
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    if objects:
        raise InputError(f"{file}: has annotations of an image that it does not list: image_id {next(iter(objects))}")
    if not records:
        raise InputError(f"{file}: lists no images")
    twice = next((number for number, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{file}: lists two images with the id {twice}; ids must be unique")
    there = {images / entry.name for entry in os.scandir(images)}  # one call instead of 118,000
    missing = next((r.path for r in records if r.path not in there and not r.path.is_file()), None)
    if missing is not None:
        raise InputError(f"{missing} is missing: {file.name} lists it")
    return records


def _record(image: dict[str, Any], objects: list[dict[str, Any]], folder: Path, numbers: dict[int, int]) -> Annotated:
    height, width = image_shape(image)
    boxes = np.array([thing["bbox"] for thing in objects], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    clipped = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    crowd = np.array([bool(thing.get("iscrowd", 0)) for thing in objects], bool)
    if not np.isfinite(boxes).all():
        raise ValueError(f"a box of {image['file_name']} is not finite")
    unknown = next((thing["category_id"] for thing in objects if thing["category_id"] not in numbers), None)
    if unknown is not None:
        raise ValueError(f"category_id {unknown} of {image['file_name']} is not among the categories")
    extent = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return Annotated(
        folder / image["file_name"],
        int(image["id"]),
        height,
        width,
        clipped,
        np.array([numbers[thing["category_id"]] for thing in objects], np.int64),
        ~crowd & (clipped[:, 2:] > clipped[:, :2]).all(1),
        crowd,
        np.array([_area(thing, size) for thing, size in zip(objects, extent, strict=True)], np.float64),
        [thing["segmentation"] for thing in objects],
    )


def _area(thing: dict[str, Any], extent: float) -> float:
    """The object's area in pixels; its box's if the file has none."""
    area = thing.get("area")
    if area is None:
        return extent
    if not np.isfinite(float(area)):
        raise ValueError(f"the area of annotation {thing.get('id')} is {area}")
    return float(area)
