"""Make the eight variants of your own images: a folder in ImageNet-9's layout."""

import csv
import hashlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.crops import crop_resize, crop_resize_mask
from castlit.data.io.images import read_image
from castlit.data.io.masks import THRESHOLD, MaskKind, read_mask, require_mask_kind
from castlit.evaluation.backgrounds.plan import Job, mask_of, plan, refuse_shared
from castlit.evaluation.backgrounds.variants import MIXED, VARIANTS, Cut, box_area, mixed, variants_of
from castlit.evaluation.frozen import ImageList, read_class_folders
from castlit.utils.atomic_write import write_atomic
from castlit.utils.cores import available_cores
from castlit.utils.csv_cells import safe_cells
from castlit.utils.json_files import load_json, write_json
from castlit.utils.process_pool import in_processes
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError, require_int, require_number, require_path

logger = logging.getLogger(__name__)

LARGEST_BOX = 0.9
"""Skip images whose object's box covers a larger fraction, as ImageNet-9 does: too little background is left."""

_RECORD, _COMPLETE = "made.json", "complete"
_LEFT_OUT = "left_out.csv"


def make_backgrounds(
    source: str | Path,
    target: str | Path,
    size: int = 224,
    val_share: float = 0.3,
    seed: int = 0,
    threshold: float = THRESHOLD,
    workers: int | None = None,
    mask_kind: MaskKind = "auto",
) -> Path:
    """Make ``<variant>/val/<class>/*.png`` for the eight variants, and ``original/train/<class>/*.png``.

    ``source`` holds ``images/<class>/**`` and ``masks/<class>/**``: a mask has its image's path, and a mask's suffix.
    Each image is cropped to the largest square, with the object's box as close to its middle as possible. Mixed images
    get the background (``only_bg_t``) of another validation image: of the same class, of a random class, or of the next
    class. The same seed makes the same files.

    Images without an object, or whose object's box covers more than 90 % of the square, are skipped and listed in
    ``left_out.csv``.

    Args:
        source: The folder.
        target: Folder for the results; if it holds those of the same images and settings, nothing is done.
        size: Side of the results in pixels.
        val_share: Fraction of each class to test on, in (0, 1); the rest is for training a head.
        seed: Seed of the split and of the backgrounds.
        threshold: Mask level above which a pixel is the object's, as a fraction of the maximum, in [0, 1].
        workers: Processes; 0 uses this one; None: one per core.
        mask_kind: What the pixels of masks mean, see :func:`castlit.data.io.masks.decode_mask`.

    Returns:
        ``target``.

    Raises:
        InputError: The layout is wrong, a mask is missing, a class has fewer than three usable images (one to train
            on and two to test on), or ``target`` holds other files.
    """
    top, folder = require_path("data.make_from", source), require_path("protocol.made", target)
    require_int("size", size, 16)
    require_number("val_share", val_share, 0, 1)
    require_mask_kind("mask_kind", mask_kind)
    images, classes = read_class_folders(top / "images", "data.make_from")
    masks = [mask_of(top, images.path(i)) for i in range(len(images))]
    refuse_shared(images, masks)
    settings = {"seed": seed, "size": size, "val_share": val_share, "threshold": threshold, "mask_kind": mask_kind}
    record = {**settings, "variants": list(VARIANTS), "images": _state(images), "masks": _state(ImageList(masks))}
    if _done(folder, record):
        logger.info("using the variants in %s, made of the same images and settings", folder)
        return folder
    workers = available_cores() if workers is None else require_int("workers", workers, 0)
    read = partial(_read, size=size, threshold=threshold, kind=mask_kind)
    pairs = [(images.path(i), masks[i]) for i in range(len(images))]
    reasons = _all("Looking at masks", partial(_usable, read=read), pairs, workers)
    _report_left_out(folder, pairs, reasons)
    jobs = plan(top / "images", images, masks, classes, np.array([r == "" for r in reasons]), val_share, seed)
    # Before the first image: those of an interrupted call belong to these images and settings, and to no others.
    write_json(folder / _RECORD, {**record, _COMPLETE: False})
    _all("Cutting out", partial(_single, folder=folder, read=read), jobs, workers)
    val = [job for job in jobs if job.split == "val"]
    _all("Mixing", partial(_mix, folder=folder, read=read), val, workers)
    write_json(folder / _RECORD, {**record, _COMPLETE: True})
    return folder


def square(image: NDArray[np.uint8], mask: NDArray[np.uint8], size: int) -> Cut:
    """Crop the largest square of an image, with the object's box as close to its middle as possible."""
    height, width = mask.shape
    side = min(height, width)
    x = y = 0
    if mask.any():
        x1, y1, x2, y2 = Cut(image, mask).box
        x = int(np.clip((x1 + x2 - side) // 2, 0, width - side))
        y = int(np.clip((y1 + y2 - side) // 2, 0, height - side))
    box = (x, y, x + side, y + side)
    return Cut(crop_resize(image, box, (size, size)), crop_resize_mask(mask, box, (size, size)))


def _read(image: str, mask: str, size: int, threshold: float, kind: MaskKind) -> Cut:
    pixels = read_image(image)
    return square(pixels, read_mask(mask, image, pixels.shape[:2], threshold, kind), size)


def _usable(pair: tuple[str, str], read: Callable[[str, str], Cut]) -> str:
    """Return why an image is skipped; empty if it is not."""
    cut = read(*pair)
    if not cut.mask.any():
        return "the mask is empty"
    area = box_area(cut)
    return f"the object's box covers {area:.0%} of the image" if area > LARGEST_BOX else ""


def _single(job: Job, folder: Path, read: Callable[[str, str], Cut]) -> bool:
    cut = read(job.image, job.mask)
    made = variants_of(cut) if job.split == "val" else {"original": cut.image}
    for variant, pixels in made.items():
        _write(folder / variant / job.split / job.place, pixels)
    return True


def _mix(job: Job, folder: Path, read: Callable[[str, str], Cut]) -> bool:
    cut = read(job.image, job.mask)
    for variant, donor in zip(MIXED, job.donors, strict=True):
        background = read_image(folder / "only_bg_t" / "val" / donor)
        _write(folder / variant / "val" / job.place, mixed(cut, background))
    return True


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR))
    write_atomic(path, data.tobytes())


def _state(images: ImageList) -> str:
    return hashlib.blake2b(images.state(), digest_size=16).hexdigest()


def _done(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a folder has everything; False if it is empty, or a call with the same record was interrupted."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    file = folder / _RECORD
    if not file.is_file():
        names = {path.name for path in folder.iterdir()} - {_LEFT_OUT}
        if not names:
            return False
        strange = sorted(names - set(VARIANTS))
        if strange:
            raise InputError(f"{folder} holds {strange[0]}, which is not a variant: name another folder")
    try:
        found = load_json(file.read_bytes())
    except (FileNotFoundError, ValueError):  # of castlit 0.2, interrupted; or damaged
        found = None
    # castlit 0.2 wrote the record at the end.
    complete = found.pop(_COMPLETE, True) if isinstance(found, dict) else False
    if found != record:
        raise InputError(f"{folder} holds variants of other images or settings: remove it, or name another folder")
    return bool(complete)


def _all(title: str, work: Any, items: list[Any], workers: int) -> list[Any]:  # noqa: ANN401
    results = []
    with ProgressLog(title, len(items)) as pace:
        for result in in_processes(work, items, workers, died=_died):
            results.append(result)
            pace.advance()
    return results


def _died(item: Any) -> Any:  # noqa: ANN401
    raise InputError(f"{item[0]}: the process that worked on it died (out of memory?): give fewer workers")


def _report_left_out(folder: Path, pairs: list[tuple[str, str]], reasons: list[str]) -> None:
    rows = [(image, reason) for (image, _), reason in zip(pairs, reasons, strict=True) if reason]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LEFT_OUT).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("image", "reason"), *map(safe_cells, rows)])
    if rows:
        logger.warning("%d of %d images are skipped, see %s", len(rows), len(pairs), folder / _LEFT_OUT)
