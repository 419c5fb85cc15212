"""An annotated image, independent of the layout it was read from."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError, did_you_mean

logger = logging.getLogger(__name__)

_NAMED = 3  # in a message


class Annotated(NamedTuple):
    """An image and the objects in it, n of them."""

    path: Path
    number: int
    """Unique in its split."""
    height: int
    width: int
    boxes: NDArray[np.float32]
    """(n, 4): left, top, right, bottom in pixels, from 0."""
    labels: NDArray[np.int64]
    """(n,): 1 for the first class; 0 is the background."""
    learnt: NDArray[np.bool_]
    """(n,): whether training uses it."""
    ignored: NDArray[np.bool_]
    """(n,): whether the test ignores it (neither right nor wrong): VOC's difficult objects, COCO's crowds."""
    areas: NDArray[np.float64]
    """(n,): in pixels; COCO's size classes go by it."""
    segments: list[Any] | None = None
    """(n,): COCO's polygons or run lengths; None if the layout has none."""

    def only(self, keep: NDArray[np.bool_]) -> "Annotated":
        """Return the image with these objects only."""
        segments = None if self.segments is None else [s for s, kept in zip(self.segments, keep, strict=True) if kept]
        return self._replace(
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            learnt=self.learnt[keep],
            ignored=self.ignored[keep],
            areas=self.areas[keep],
            segments=segments,
        )


class Annotations(NamedTuple):
    """The images to train on and to test on."""

    train: list[Annotated]
    test: list[Annotated]
    classes: list[str]
    """Their numbers in the records start at 1."""


def choose_classes(found: Annotations, wanted: str | Sequence[str], train: str, test: str) -> Annotations:
    """Keep the objects of some classes.

    Args:
        found: All annotations.
        wanted: ``"all"``; ``"present"`` (those in both splits); or names.
        train: What messages call the training split.
        test: What messages call the test split.

    Raises:
        InputError: A class is unknown, or a split has no object of it; or no class is left.
    """
    if isinstance(wanted, str) and wanted not in ("all", "present"):
        raise InputError(f"classes must be all, present, or a list such as [person,car]; got {wanted!r}")
    counts = [_counts(found.train, len(found.classes), True), _counts(found.test, len(found.classes), False)]
    both = (counts[0] > 0) & (counts[1] > 0)
    if isinstance(wanted, str):
        names = [name for name, there in zip(found.classes, both, strict=True) if there or wanted == "all"]
    else:
        names = list(dict.fromkeys(wanted))
        for name in names:
            if name not in found.classes:
                raise InputError(f"classes: {name!r} is not among those of {train}{did_you_mean(name, found.classes)}")
    numbers = [found.classes.index(name) for name in names]
    for split, count in ((train, counts[0]), (test, counts[1])):
        empty = [name for name, number in zip(names, numbers, strict=True) if count[number] == 0]
        if empty:
            raise InputError(
                f"{split} has no object of {_some(empty)}: give protocol.classes=present (those in both splits), or "
                "a list of classes"
            )
    if not names:
        raise InputError(f"{train} and {test} have no class in common: look at their annotations")
    if len(names) < len(found.classes):
        left = [name for name in found.classes if name not in names]
        logger.warning("%d of %d classes; without %s", len(names), len(found.classes), _some(left))
    new = np.zeros(len(found.classes) + 1, np.int64)
    new[np.array(numbers) + 1] = np.arange(len(names)) + 1
    train_records = [record for record in _renumbered(found.train, new) if record.learnt.any()]
    return Annotations(train_records, _renumbered(found.test, new), names)


def _counts(records: Iterable[Annotated], classes: int, train: bool) -> NDArray[np.int64]:
    """Count the objects of each class to train on, or to detect."""
    counts = np.zeros(classes + 1, np.int64)
    for record in records:
        counts += np.bincount(record.labels[record.learnt if train else ~record.ignored], minlength=classes + 1)
    return counts[1:]


def _renumbered(records: Iterable[Annotated], new: NDArray[np.int64]) -> list[Annotated]:
    kept = (record.only(new[record.labels] > 0) for record in records)
    return [record._replace(labels=new[record.labels]) for record in kept]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f", ... ({len(names)} in all)" if len(names) > _NAMED else "")
