"""PASCAL VOC's layout: ``VOCdevkit/VOC2007/Annotations/*.xml``, in the splits of ``ImageSets/Main``."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from castlit.evaluation.detection.records import Annotated, Annotations
from castlit.evaluation.voc07.lists import VOC_CLASSES
from castlit.utils.inside import require_inside
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError, require_path


def read_voc(
    root: str | Path | None, train: Sequence[str], test: Sequence[str], classes: Iterable[str] = VOC_CLASSES
) -> Annotations:
    """Read the boxes of two lists of splits.

    Objects marked difficult are trained on, as in the papers, and ignored in the test, as in the challenge.

    Args:
        root: The folder ``VOCdevkit``, or its parent.
        train: Splits to train on, as ``VOC2007/trainval``: a folder of ``root``, and a list in its ``ImageSets/Main``.
        test: Splits to test on.
        classes: All names that annotations may have.

    Raises:
        InputError: A folder, list, image or annotation is missing, or an annotation is not VOC's.
    """
    if root is None:
        raise InputError("data.root is missing: give VOCdevkit, with the folders VOC2007 and VOC2012")
    folder = require_path("data.root", root)
    if (folder / "VOCdevkit").is_dir():
        folder = folder / "VOCdevkit"
    if not folder.is_dir():
        raise InputError(f"data.root={root}: no such folder; give VOCdevkit, with the folders VOC2007 and VOC2012")
    numbers = {name: number + 1 for number, name in enumerate(classes)}
    if not train or not test:
        raise InputError("protocol.train and protocol.test need a split each, such as VOC2007/trainval")
    splits = [[entry for split in splits for entry in _listed(folder, split)] for splits in (train, test)]
    records: list[list[Annotated]] = []
    with ProgressLog("Reading annotations", sum(map(len, splits))) as pace:
        for split in splits:
            records.append([])
            for number, (place, name) in enumerate(split):
                records[-1].append(_read(place, name, number + 1, numbers))
                pace.advance()
    return Annotations(records[0], records[1], list(numbers))


def _listed(root: Path, split: str) -> list[tuple[Path, str]]:
    """The images of a split: folder (VOC2007) and image name."""
    edition, _, name = split.rpartition("/")
    if not edition or not name:
        raise InputError(f"split {split!r} must be a folder of data.root and a list, such as VOC2007/trainval")
    place, file = root / edition, root / edition / "ImageSets" / "Main" / f"{name}.txt"
    if not place.is_dir():
        raise InputError(f"{root} has no folder {edition}: give data.root=, VOCdevkit, or choose other splits")
    if not file.is_file():
        raise InputError(f"{file} is missing: it lists the images of {split}")
    names = [
        line.split()[0] for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    ]
    if not names:
        raise InputError(f"{file} lists no images")
    try:
        names = list(map(require_inside, names))
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    if not (place / "Annotations").is_dir():
        raise InputError(f"{place} has no folder Annotations: boxes are read from its .xml files")
    return [(place, image) for image in names]


def _read(place: Path, name: str, number: int, classes: dict[str, int]) -> Annotated:
    file, image = place / "Annotations" / f"{name}.xml", place / "JPEGImages" / f"{name}.jpg"
    try:
        tree = ElementTree.parse(file).getroot()
        width, height = (int(_text(tree, f"size/{side}")) for side in ("width", "height"))
        objects = tree.findall("object")
        names = [_text(thing, "name") for thing in objects]
        hard = [thing.findtext("difficult", "0").strip() == "1" for thing in objects]
        sides = [[float(_text(thing, f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")] for thing in objects]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{file}: is not one of VOC's annotations ({error})") from None
    strange = next((thing for thing in names if thing not in classes), None)
    if strange is not None:
        raise InputError(f"{file}: {strange!r} is none of VOC's {len(classes)} classes")
    boxes = np.array(sides, np.float32).reshape(-1, 4)
    boxes[:, :2] -= 1  # VOC counts pixels from 1 and includes the last one
    extent = boxes[:, 2:] - boxes[:, :2]
    inside = (boxes >= -1).all() and (boxes <= [width + 1, height + 1, width + 1, height + 1]).all()
    if not inside or not (extent > 0).all():  # false for NaN
        raise InputError(f"{file}: has a box that is empty or outside of the image of {width} x {height}")
    if not image.is_file():
        raise InputError(f"{image} is missing: {file} is its annotation")
    return Annotated(
        image,
        number,
        height,
        width,
        boxes,
        np.array([classes[thing] for thing in names], np.int64),
        np.ones(len(names), bool),
        np.array(hard, bool),
        np.prod(extent, axis=1, dtype=np.float64),
    )


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"without {path}")
    return text.strip()
