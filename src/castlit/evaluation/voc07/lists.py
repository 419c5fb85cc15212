"""PASCAL VOC's image lists: the classes in each image."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.folders import require_folder
from castlit.evaluation.frozen import ImageList
from castlit.utils.inside import require_inside
from castlit.utils.validation import InputError

# fmt: off
VOC_CLASSES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car",
    "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]
# fmt: on

_VALUES = {"1": 1, "0": 0, "-1": -1}


class VocLists(NamedTuple):
    """A split's images and their labels."""

    images: ImageList
    labels: NDArray[np.int8]
    """(images, classes): 1 present, -1 absent, 0 not counted: difficult, or not in the class's list."""
    classes: list[str]


def read_voc_lists(root: str | Path, split: str, key: str = "data.root") -> VocLists:
    """Read ``ImageSets/Main/<class>_<split>.txt`` of all classes.

    Args:
        root: ``VOCdevkit``, its folder ``VOC2007``, or its parent.
        split: ``"trainval"`` or ``"test"``.
        key: The key that the user gave ``root`` under, for messages.

    Raises:
        InputError: Lists or images are missing, or a line is not an image's name and one of -1, 0, 1.
        FileNotFoundError: No such folder.
    """
    top = require_folder(key, root, "VOC2007")
    inner = next((place for place in (top / "VOC2007", top / "VOCdevkit" / "VOC2007") if place.is_dir()), top)
    main = inner / "ImageSets" / "Main"
    if not main.is_dir() or not (inner / "JPEGImages").is_dir():
        raise InputError(
            f"{key}={top} is not laid out as VOCdevkit: there must be VOC2007/ImageSets/Main and VOC2007/JPEGImages"
        )
    known = {file.name.rpartition("_")[0] for kind in ("trainval", "test") for file in main.glob(f"*_{kind}.txt")}
    # VOC's order for VOC's classes; other data in this layout may have other classes, some of VOC's among them.
    classes = VOC_CLASSES if known and known <= set(VOC_CLASSES) else sorted(known)
    missing = [name for name in classes if not (main / f"{name}_{split}.txt").is_file()]
    if missing or not classes:
        hint = "; the test images of VOC2007 come in a separate archive" if split == "test" else ""
        raise InputError(f"{main} lacks {missing[0] if missing else '<class>'}_{split}.txt{hint}")
    rows: dict[str, NDArray[np.int8]] = {}
    for column, name in enumerate(classes):
        for image, label in _read(main / f"{name}_{split}.txt"):
            rows.setdefault(image, np.zeros(len(classes), np.int8))[column] = label
    if not rows:
        raise InputError(f"{main}/{classes[0]}_{split}.txt and the other lists of {split} are empty")
    names = sorted(rows)
    paths = [inner / "JPEGImages" / f"{name}.jpg" for name in names]
    absent = next((path for path in paths if not path.is_file()), None)
    if absent is not None:
        raise InputError(f"{absent}: no such file, but ImageSets/Main lists it for {split}")
    return VocLists(ImageList([str(path) for path in paths]), np.stack([rows[name] for name in names]), list(classes))


def _read(file: Path) -> list[tuple[str, int]]:
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in _VALUES:
            raise InputError(f"{file}:{number}: {line.strip()!r} is not an image's name and -1, 0 or 1")
        try:
            found.append((require_inside(words[0]), _VALUES[words[1]]))
        except ValueError as error:
            raise InputError(f"{file}:{number}: {error}") from None
    return found
