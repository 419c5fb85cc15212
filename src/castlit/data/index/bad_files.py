"""What happens to the files of an index that have a problem: report rows, an error, or a warning."""

import logging
import os
from collections import Counter
from collections.abc import Iterator

import numpy as np

from castlit.data.index.image_index import ImageIndex, Problem
from castlit.data.io.bad_samples import OnBad
from castlit.data.io.data_report import DataReport
from castlit.utils.bytes_array import decode
from castlit.utils.validation import InputError

_NAMED = 5  # file names listed in a message

_ADVICE = {
    Problem.MASK_LABELS: "say what label maps mean (mask_kind=labels, colours or levels)",
    Problem.IMAGE_LIKE_MASK: "give the folder of the photographs alone, without their masks",
}

logger = logging.getLogger(__name__)


def report_rows(index: ImageIndex, split: str, on_bad: OnBad) -> Iterator[tuple[str, ...]]:
    """The rows of ``data_report.csv`` (see :data:`castlit.data.io.data_report.COLUMNS`) for an index."""
    for detail, row in enumerate(np.flatnonzero(index.problems).tolist()):
        entry = index[row]
        drop = on_bad == "drop" or entry.problem == Problem.IMAGE_UNREADABLE
        handling = "stopped" if on_bad == "error" else "left out" if drop else "used without a mask"
        yield split, entry.image, entry.mask, entry.problem.label, decode(index.details[detail]), handling
    for i in range(len(index.orphans)):
        yield split, "", decode(index.orphans[i]), "mask without an image", "", "ignored"


def check_problems(
    index: ImageIndex, on_bad: OnBad, masks: str, masks_in_folder: bool, report: DataReport | None
) -> None:
    """Raise an error about the problems of an index, or log a warning, as ``on_bad`` says.

    Args:
        index: The index.
        on_bad: See :class:`castlit.data.index.file_source.FileSource`.
        masks: Folder of masks, or file of annotations; for the message.
        masks_in_folder: Whether it is a folder.
        report: Where all problems are listed, if anywhere.

    Raises:
        InputError: No image has a mask, or none can be used; or ``on_bad`` is ``"error"`` and there is a problem.
    """
    codes, numbers = np.unique(index.problems, return_counts=True)
    counts = Counter({Problem(code): number for code, number in zip(codes.tolist(), numbers.tolist(), strict=True)})
    total = len(index)
    if counts[Problem.MASK_MISSING] == total and on_bad != "unconstrained":
        first = os.path.splitext(index[0].image)[0]  # noqa: PTH122
        expected = f"{masks}/{first}.png and so on" if masks_in_folder else f"them in {masks}"
        raise InputError(f"none of the {total} images has a mask: expected {expected}")
    bad = total - counts[Problem.NONE]
    if bad == 0:
        return
    kinds = "; ".join(_describe(index, each, counts[each]) for each in Problem if each and counts[each])
    listed = f"; all are listed in {report.path}" if report is not None else ""
    what = f"{bad} of {total} images cannot be used as they are ({kinds}){listed}"
    if on_bad == "error":
        advice = "".join(f"{_ADVICE[problem]}, " for problem in _ADVICE if counts[problem])
        raise InputError(
            f"{what}; repair them, {advice}or set on_bad=drop to leave them out or on_bad=unconstrained to use those "
            "with a bad mask without it"
        )
    lost = counts[Problem.IMAGE_UNREADABLE] if on_bad == "unconstrained" else bad
    if lost == total:
        raise InputError(f"none of the {total} images can be used: {what}")
    logger.warning("%s; %d are left out, %d are used without a mask (on_bad=%s)", what, lost, bad - lost, on_bad)


def _describe(index: ImageIndex, problem: Problem, count: int) -> str:
    rows = np.flatnonzero(index.problems == problem)[:_NAMED].tolist()
    names = ", ".join(index[row].image for row in rows)
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return f"{count} {problem.label}: {names}{more}"
