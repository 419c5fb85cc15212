"""Make the eight variants of one's own images: a folder like ImageNet-9's."""

import csv
import hashlib
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.crops import crop_resize, crop_resize_mask
from castlit.data.io.images import read_image
from castlit.data.io.masks import THRESHOLD, read_mask
from castlit.evaluation.backgrounds.plan import Job, mask_of, plan
from castlit.evaluation.backgrounds.variants import MIXED, VARIANTS, Cut, box_area, mixed, variants_of
from castlit.evaluation.frozen import ImageList, read_class_folders
from castlit.utils.atomic_write import write_whole
from castlit.utils.cores import available_cores
from castlit.utils.process_pool import in_processes
from castlit.utils.progress_log import Pace
from castlit.utils.validation import InputError, require_int, require_number

logger = logging.getLogger(__name__)

LARGEST_BOX = 0.9
"""Objects whose box covers more of the image leave no background to speak of, and are left out (as in ImageNet-9)."""

_RECORD = "made.json"


def make_backgrounds(
    source: str | Path,
    target: str | Path,
    size: int = 224,
    val_share: float = 0.3,
    seed: int = 0,
    threshold: float = THRESHOLD,
    workers: int | None = None,
) -> Path:
    """Make ``<variant>/val/<class>/*.png`` for the eight variants, and ``original/train/<class>/*.png``.

    ``source`` holds ``images/<class>/**`` and ``masks/<class>/**``: a mask has its image's path, and a mask's suffix.
    An image becomes the largest square that its short side allows, slid along the long one until the object's box is in
    its middle. Mixed images get the background (``only_bg_t``) of another validation image: one of the same class, of
    a class that is drawn from all, or of the next class. The same seed makes the same files.

    Images without an object, or whose object's box covers more than 90 % of the square, are left out and listed in
    ``left_out.csv``.

    Args:
        source: The folder.
        target: Folder for the results; where it holds those of the same images and settings, nothing is done.
        size: Side of the results in pixels.
        val_share: Share of each class that is tested on, in (0, 1); the rest is for training a head.
        seed: Seed of the split and of the backgrounds.
        threshold: Share of a mask's full level above which a pixel is the object's, in [0, 1].
        workers: Processes; 0 works in this one; None means one for each core.

    Returns:
        ``target``.

    Raises:
        InputError: The layout is another, a mask is missing, a class has fewer than three usable images (one to train
            on and two to test on), or ``target`` holds something else.
    """
    top, folder = Path(source).expanduser(), Path(target).expanduser()
    require_int("size", size, 16)
    require_number("val_share", val_share, 0, 1)
    images, classes = read_class_folders(top / "images", "data.make_from")
    masks = [mask_of(top, images.path(i)) for i in range(len(images))]
    told = {"seed": seed, "size": size, "val_share": val_share, "threshold": threshold, "variants": list(VARIANTS)}
    record = {**told, "images": _state(images), "masks": _state(ImageList(masks))}
    if _done(folder, record):
        logger.info("the variants in %s are of these images and settings: they are used as they are", folder)
        return folder
    workers = available_cores() if workers is None else require_int("workers", workers, 0)
    cut = partial(_usable, size=size, threshold=threshold)
    pairs = [(images.path(i), masks[i]) for i in range(len(images))]
    reasons = _all("Looking at masks", cut, pairs, workers)
    _tell_left_out(folder, pairs, reasons)
    jobs = plan(top / "images", images, masks, classes, np.array([r == "" for r in reasons]), val_share, seed)
    _all("Cutting out", partial(_single, folder=folder, size=size, threshold=threshold), jobs, workers)
    val = [job for job in jobs if job.split == "val"]
    _all("Mixing", partial(_mix, folder=folder, size=size, threshold=threshold), val, workers)
    write_whole(folder / _RECORD, (json.dumps(record, indent=2) + "\n").encode())
    return folder


def square(image: NDArray[np.uint8], mask: NDArray[np.uint8], size: int) -> Cut:
    """The largest square of an image that has the object's box as near to its middle as the edges allow."""
    height, width = mask.shape
    side = min(height, width)
    x = y = 0
    if mask.any():
        x1, y1, x2, y2 = Cut(image, mask).box
        x = int(np.clip((x1 + x2 - side) // 2, 0, width - side))
        y = int(np.clip((y1 + y2 - side) // 2, 0, height - side))
    box = (x, y, x + side, y + side)
    return Cut(crop_resize(image, box, (size, size)), crop_resize_mask(mask, box, (size, size)))


def _read(image: str, mask: str, size: int, threshold: float) -> Cut:
    pixels = read_image(image)
    return square(pixels, read_mask(mask, image, pixels.shape[:2], threshold), size)


def _usable(pair: tuple[str, str], size: int, threshold: float) -> str:
    """Why an image is left out; empty where it is not."""
    cut = _read(*pair, size, threshold)
    if not cut.mask.any():
        return "the mask is empty"
    share = box_area(cut)
    return f"the object's box covers {share:.0%} of the image" if share > LARGEST_BOX else ""


def _single(job: Job, folder: Path, size: int, threshold: float) -> bool:
    cut = _read(job.image, job.mask, size, threshold)
    made = variants_of(cut) if job.split == "val" else {"original": cut.image}
    for variant, pixels in made.items():
        _write(folder / variant / job.split / job.place, pixels)
    return True


def _mix(job: Job, folder: Path, size: int, threshold: float) -> bool:
    cut = _read(job.image, job.mask, size, threshold)
    for variant, donor in zip(MIXED, job.donors, strict=True):
        background = read_image(folder / "only_bg_t" / "val" / donor)
        _write(folder / variant / "val" / job.place, mixed(cut, background))
    return True


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR))
    write_whole(path, data.tobytes())


def _state(images: ImageList) -> str:
    return hashlib.blake2b(images.state(), digest_size=16).hexdigest()


def _done(folder: Path, record: dict[str, Any]) -> bool:
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    file = folder / _RECORD
    if not file.is_file():
        strange = [path.name for path in folder.iterdir() if path.name not in (*VARIANTS, "left_out.csv")]
        if strange:
            raise InputError(f"{folder} holds {strange[0]}, which is no variant: name another folder to make them in")
        return False  # the making was broken off
    if json.loads(file.read_text()) != record:
        raise InputError(f"{folder} holds variants of other images or settings: remove it, or name another folder")
    return True


def _all(title: str, work: Any, items: list[Any], workers: int) -> list[Any]:  # noqa: ANN401
    results = []
    with Pace(title, len(items)) as pace:
        for result in in_processes(work, items, workers, died=_died):
            results.append(result)
            pace.advance()
    return results


def _died(item: Any) -> Any:  # noqa: ANN401
    raise InputError(f"{item[0]}: the process that worked on it died (out of memory?): give fewer workers")


def _tell_left_out(folder: Path, pairs: list[tuple[str, str]], reasons: list[str]) -> None:
    rows = [(image, reason) for (image, _), reason in zip(pairs, reasons, strict=True) if reason]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "left_out.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("image", "reason"), *rows])
    if rows:
        logger.warning("%d of %d images are left out, see %s", len(rows), len(pairs), folder / "left_out.csv")
