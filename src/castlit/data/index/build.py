"""Build an index: pair images and masks, open each of them once, and record the problems."""

import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from castlit.data.index.check import Check, Checker
from castlit.data.index.image_index import FORMAT, ImageIndex, Problem
from castlit.data.index.pairing import Pair, pair_files, refuse_linked
from castlit.data.index.stray_masks import stray_masks
from castlit.data.io.coco_annotations import AnnotationMasks
from castlit.data.io.folders import Folder, same_folder, walk
from castlit.data.io.images import file_state, quiet_decoding
from castlit.data.io.masks import MaskKind
from castlit.utils.bytes_array import BytesArray, encode_path, encode_text
from castlit.utils.cores import available_cores
from castlit.utils.progress_log import ProgressLog

BLOCK = 256
"""Images that a thread checks per task."""

logger = logging.getLogger(__name__)


def build_index(
    images: Path, masks: Path | None, threshold: float, kind: MaskKind = "auto", scratch: Path | None = None
) -> ImageIndex:
    """Open every image and mask once, on all cores, and show the progress.

    Args:
        images: Folder of images.
        masks: Folder of masks, COCO's instance annotations (.json), or None.
        threshold: See :func:`castlit.data.io.masks.decode_mask`.
        kind: Likewise.
        scratch: Folder for temporary files, about 1 kB per mask; None means the system's temporary folder.

    Raises:
        OSError: A folder cannot be read.
        InputError: The annotations cannot be used, or a link among the images leads to the masks.
    """
    annotations = AnnotationMasks(masks) if masks is not None and masks.is_file() else None
    image_folders = list(walk(images))
    mask_folders = None
    if masks is not None and annotations is None:
        refuse_linked(images, image_folders, masks)
        mask_folders = list(walk(masks))
    pairs, orphans = pair_files(image_folders, mask_folders, together=masks is not None and same_folder(images, masks))
    if annotations is not None:
        annotations.assign(name for name, _, _ in pairs)
    checker = Checker(images, masks, annotations, threshold, kind)
    sizes = np.zeros((len(pairs), 2), np.int32)
    areas = np.zeros(len(pairs), np.float32)
    problems = np.zeros(len(pairs), np.uint8)
    states = np.zeros((len(pairs), 2), np.int64)
    looks = np.zeros((len(pairs), 2), bool)
    details: dict[int, bytes] = {}

    def packed_masks() -> Iterator[bytes]:
        for i, check in enumerate(_check_all(checker, pairs)):
            sizes[i], areas[i], problems[i], states[i] = check.size, check.area, check.problem, check.state
            looks[i] = check.look
            if check.problem:
                details[i] = encode_text(check.detail)
            yield check.packed

    packed = BytesArray.collect(packed_masks(), scratch)
    if masks is None:
        for i in np.flatnonzero(stray_masks([name for name, _, _ in pairs], *looks.T)).tolist():
            problems[i], details[i] = Problem.IMAGE_LIKE_MASK, b"black and white, or grey beside one in colour"
    index = ImageIndex(
        images=BytesArray.of([encode_path(image) for image, _, _ in pairs]),
        masks=BytesArray.of([encode_path(mask) for _, mask, _ in pairs]),
        packed=packed,
        states=states,
        sizes=sizes,
        areas=areas,
        problems=problems,
        details=BytesArray.of([details[i] for i in sorted(details)]),
        orphans=BytesArray.of([encode_path(name) for name in orphans]),
        stamp={},
    )
    bad = _bad_files(index, images, masks)
    index.stamp = _stamp(images, masks, threshold, kind, image_folders, mask_folders or [], bad)
    return index


def is_current(stamp: dict[str, Any], images: Path, masks: Path | None, threshold: float, kind: MaskKind) -> bool:
    """Whether an index with this stamp is up to date.

    Adding, removing or renaming a file changes the modification time of its folder, so only folders are checked, and
    the files that had a problem, as they may have been repaired in place. (A change of another file is detected when it
    is read.)
    """
    if stamp["inputs"] != _inputs(images, masks, threshold, kind):
        return False
    for folders, top in ((stamp["images"], images), (stamp["masks"], masks)):
        for path, modified in folders:
            if top is None or _modified(top / path) != modified:
                return False
    return all(_state(Path(path)) == state for path, state in stamp["bad_files"])


def _check_all(checker: Checker, pairs: list[Pair]) -> Iterator[Check]:
    threads = available_cores()
    # Threads are enough: reading and decoding release the GIL.
    with (
        quiet_decoding(),
        ThreadPoolExecutor(threads) as pool,
        ProgressLog("Indexing images", len(pairs)) as pace,
    ):
        blocks = (pairs[i : i + BLOCK] for i in range(0, len(pairs), BLOCK))
        waiting = [pool.submit(checker.block, block) for block in itertools.islice(blocks, 4 * threads)]
        while waiting:
            results = waiting.pop(0).result()
            waiting += [pool.submit(checker.block, block) for block in itertools.islice(blocks, 1)]
            pace.advance(len(results))
            yield from results


def stamp_folders(images: Path, masks: Path | None, threshold: float) -> dict[str, Any]:
    """The stamp of an index without problems, see :func:`is_current`."""
    in_folder = masks is not None and masks.is_dir()
    mask_folders = list(walk(masks)) if masks and in_folder else []
    return _stamp(images, masks, threshold, "auto", list(walk(images)), mask_folders, [])


def _stamp(
    images: Path,
    masks: Path | None,
    threshold: float,
    kind: MaskKind,
    image_folders: list[Folder],
    mask_folders: list[Folder],
    bad_files: list[Path],
) -> dict[str, Any]:
    return {
        "inputs": _inputs(images, masks, threshold, kind),
        "images": [(folder.path, folder.modified) for folder in image_folders],
        "masks": [(folder.path, folder.modified) for folder in mask_folders],
        "bad_files": [(str(file), _state(file)) for file in bad_files],
    }


def _bad_files(index: ImageIndex, images: Path, masks: Path | None) -> list[Path]:
    # Adding a missing mask changes its folder's modification time. Repairing another file in place does not.
    bad = np.flatnonzero((index.problems != Problem.NONE) & (index.problems != Problem.MASK_MISSING))
    files = []
    for row in bad.tolist():
        entry = index[row]
        files.append(images / entry.image)
        if masks is not None and masks.is_dir() and entry.mask:
            files.append(masks / entry.mask)
    return files


def _inputs(images: Path, masks: Path | None, threshold: float, kind: MaskKind) -> list[Any]:
    annotations = _state(masks) if masks is not None and masks.is_file() else None
    folders = [str(images.resolve()), None if masks is None else str(masks.resolve())]
    return [FORMAT, *folders, threshold, kind, annotations]


def _modified(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _state(file: Path) -> list[int]:
    """Size and modification time of a file, as a list, so that it is equal after saving as JSON."""
    return list(file_state(str(file)))
