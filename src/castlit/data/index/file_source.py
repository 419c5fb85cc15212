"""Images and masks in folders, read on demand by their index."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.index.build import build_index, is_current
from castlit.data.index.image_index import Entry, ImageIndex, Problem
from castlit.data.io.bad_samples import BadSamples, OnBad
from castlit.data.io.data_report import DataReport
from castlit.data.io.errors import EmptyMaskError, SampleError
from castlit.data.io.folders import IMAGE_SUFFIXES, require_folder, require_masks
from castlit.data.io.images import Encoded, EncodedImage, decode_image, file_state, read_bytes, stored_size
from castlit.data.io.mask_store import MaskStore
from castlit.data.io.masks import THRESHOLD, Mask, decode_mask, fit_mask, unpack_mask
from castlit.data.io.masks_json import describe_masks, read_masks_file
from castlit.data.io.source import Item
from castlit.utils.bytes_array import decode
from castlit.utils.validation import InputError, require_choice, require_number

_NAMED = 5  # names listed in a message

logger = logging.getLogger(__name__)


class FileSource:
    """Images of a folder with their masks, read on demand.

    An image at ``a/b/name.jpg`` below ``images`` has its mask at ``a/b/name.png`` below ``masks`` (or ``.npy``, or
    another image suffix where there is no PNG). Folders are searched recursively; names that start with a dot are
    passed over. The order is that of the sorted paths.

    Every image and mask is opened once, when the index is built; see :mod:`castlit.data.index.image_index`.

    Args:
        images: Folder of images (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff).
        masks: Folder of masks, or a file of COCO's instance annotations (.json), whose segmentations are the masks.
            None means there are none: crops are unconstrained and masks empty.
        on_bad: What to do about an image whose mask is missing, unreadable, empty or of another shape than the image,
            and about a file that cannot be read. ``"error"`` stops and names them. ``"drop"`` goes on without the
            image. ``"unconstrained"`` keeps the image with an empty mask: its crops are free, and it takes no part in
            the attention loss; an unreadable image is dropped. Either is logged; no other image ever takes its place.
        threshold: Share of a mask's full level above which a pixel is salient, in [0, 1].
        cache: Folder that keeps indices, each in a folder of its own. None builds the index in memory, every time.
        report: Where bad files are listed.
        split: What report and messages call these images: ``"train"``, or ``"val"``, whose arguments are called
            val_images and val_masks.
        own_masks: There are no ``masks`` until the run makes them, see :class:`castlit.data.io.mask_store.MaskStore`.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: There are no images; no mask is found at all; ``on_bad`` is ``"error"`` and something is wrong; or
            the masks' ``masks.json`` cannot be read.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | None = None,
        *,
        on_bad: OnBad = "error",
        threshold: float = THRESHOLD,
        cache: str | Path | None = None,
        report: DataReport | None = None,
        split: str = "train",
        own_masks: bool = False,
    ) -> None:
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        prefix = "val_" if split == "val" else ""
        self.images = require_folder(f"{prefix}images", images, "the photographs")
        self.masks = None if masks is None else require_masks(f"{prefix}masks", masks)
        self.made = None if self.masks is None or self.masks.is_file() else read_masks_file(self.masks)
        """What castlit noted about masks that it made, see :mod:`castlit.data.io.masks_json`."""
        if self.made is not None:
            logger.info("%smasks=%s: %s", prefix, self.masks, describe_masks(self.made))
        self.threshold = require_number("threshold", threshold, 0, 1)
        self.index = open_index(self.images, self.masks, self.threshold, cache)
        if len(self.index) == 0:
            raise InputError(
                f"{prefix}images={self.images} holds no images ({', '.join(IMAGE_SUFFIXES)}), at any depth"
            )
        if report is not None:
            report.add(self._report_rows(split, on_bad))
        self._judge(on_bad, report)
        dropped = [Problem.IMAGE_UNREADABLE] if on_bad == "unconstrained" else list(Problem)[1:]
        # Row numbers of the index; None where all are kept, which saves the array.
        bad = np.isin(self.index.problems, dropped)
        self._rows = np.flatnonzero(~bad) if bad.any() else None
        self.bad = BadSamples(on_bad, len(self), split, report)
        self.own = MaskStore(split, (self.entry(i).image for i in range(len(self)))) if own_masks else None
        """The masks that the run makes for these images, where it does."""

    def __len__(self) -> int:
        return len(self.index) if self._rows is None else len(self._rows)

    def entry(self, index: int) -> Entry:
        """What the index says of image ``index``."""
        return self.index[index if self._rows is None else int(self._rows[index])]

    def image_path(self, index: int) -> Path:
        """Where image ``index`` is."""
        return self.images / self.entry(index).image

    def mask_path(self, index: int) -> Path | None:
        """Where the mask of image ``index`` is, if it has one of its own."""
        entry = self.entry(index)
        return self.masks / entry.mask if self.masks is not None and entry.mask else None

    def read(self, index: int) -> Item:
        """Image and mask ``index``.

        Raises:
            SampleError: The image cannot be read, or the mask and ``on_bad`` is not ``"unconstrained"``. The message
                names the file.
        """
        row = index if self._rows is None else int(self._rows[index])
        entry = self.index[row]
        image, data = self._image(entry)
        height, width = image.shape[:2]
        if self.own is None and (self.masks is None or entry.problem):
            return Item(image, None)
        try:
            if self.own is not None:
                return Item(image, self.own.read(entry.image, (height, width), self.threshold))
            mask = self._mask(row, entry, data, (height, width))
            if cv2.countNonZero(mask) == 0:
                raise EmptyMaskError(f"{self._mask_name(entry)}: nothing is salient")
            return Item(image, mask)
        except SampleError as error:
            if self.bad.on_bad != "unconstrained":
                raise
            self.bad.handle(index, error, mask=True, image=entry.image)
            return Item(image, None)

    def read_image(self, index: int) -> NDArray[np.uint8] | EncodedImage:
        """Image ``index`` without its mask.

        Raises:
            SampleError: It cannot be read. The message names the file.
        """
        return self._image(self.entry(index))[0]

    def give_up(self, index: int, error: SampleError) -> None:
        """Log that image ``index`` is left out, once.

        Raises:
            SampleError: ``on_bad`` is ``"error"``.
        """
        self.bad.handle(index, error, mask=False, image=self.entry(index).image)

    def _image(self, entry: Entry) -> tuple[NDArray[np.uint8] | EncodedImage, Encoded]:
        path = f"{self.images}/{entry.image}"
        data = read_bytes(path)
        # The index is trusted only where the header agrees: a file may have been replaced since.
        known = stored_size(data) in (entry.size, entry.size[::-1])
        return EncodedImage(data, path, entry.size) if known else decode_image(data, path), data

    @property
    def _in_folder(self) -> bool:
        return self.masks is not None and self.masks.suffix.lower() != ".json"

    def _mask(self, row: int, entry: Entry, image: Encoded, shape: tuple[int, int]) -> Mask:
        """The mask, from the index as long as its file is the one that was packed there."""
        name = self._mask_name(entry)
        if self._in_folder and list(file_state(name)) != self.index.states[row].tolist():
            return fit_mask(decode_mask(read_bytes(name), name, self.threshold), name, shape, image)
        return fit_mask(unpack_mask(self.index.packed[row], entry.size), name, shape)

    def _mask_name(self, entry: Entry) -> str:
        return f"{self.masks}/{entry.mask}" if self._in_folder else f"{self.masks} ({entry.image})"

    def _report_rows(self, split: str, on_bad: OnBad) -> Iterator[tuple[str, ...]]:
        index = self.index
        for detail, row in enumerate(np.flatnonzero(index.problems).tolist()):
            entry = index[row]
            drop = on_bad == "drop" or entry.problem == Problem.IMAGE_UNREADABLE
            handling = "stopped" if on_bad == "error" else "left out" if drop else "goes on without a mask"
            yield split, entry.image, entry.mask, entry.problem.words, decode(index.details[detail]), handling
        for i in range(len(index.orphans)):
            yield split, "", decode(index.orphans[i]), "mask without an image", "", "ignored"

    def _judge(self, on_bad: OnBad, report: DataReport | None) -> None:
        """Stop, or tell what is left out."""
        counts = Counter({Problem(int(code)): int(n) for code, n in zip(*_unique(self.index), strict=True)})
        total = len(self.index)
        if counts[Problem.MASK_MISSING] == total and on_bad != "unconstrained":
            first = os.path.splitext(self.index[0].image)[0]  # noqa: PTH122
            expected = (
                f"{self.masks / first}.png and so on" if self._in_folder and self.masks else f"them in {self.masks}"
            )
            raise InputError(f"none of the {total} images has a mask: expected {expected}")
        bad = total - counts[Problem.NONE]
        if bad == 0:
            return
        kinds = "; ".join(self._tell(problem, counts[problem]) for problem in Problem if problem and counts[problem])
        listed = f"; all are listed in {report.path}" if report is not None else ""
        what = f"{bad} of {total} images cannot be used as they are ({kinds}){listed}"
        if on_bad == "error":
            raise InputError(
                f"{what}; repair them, or set on_bad=drop to leave them out or on_bad=unconstrained to keep those "
                "with a bad mask and go without it"
            )
        lost = counts[Problem.IMAGE_UNREADABLE] if on_bad == "unconstrained" else bad
        if lost == total:
            raise InputError(f"none of the {total} images can be used: {what}")
        logger.warning("%s; %d are left out, %d go on without a mask (on_bad=%s)", what, lost, bad - lost, on_bad)

    def _tell(self, problem: Problem, count: int) -> str:
        rows = np.flatnonzero(self.index.problems == problem)[:_NAMED].tolist()
        names = ", ".join(self.index[row].image for row in rows)
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        return f"{count} {problem.words}: {names}{more}"


def open_index(images: Path, masks: Path | None, threshold: float, cache: str | Path | None) -> ImageIndex:
    """The index of a folder of images: from the cache where it is up to date, otherwise built, and kept there."""
    if cache is None:
        return build_index(images, masks, threshold)
    key = hashlib.sha256(repr((str(images.resolve()), str(masks and masks.resolve()), threshold)).encode()).hexdigest()
    folder = Path(cache).expanduser().absolute() / f"{images.name}-{key[:12]}"
    index = ImageIndex.open(folder, lambda stamp: is_current(stamp, images, masks, threshold))
    if index is None:
        logger.info("Indexing %s; the index is kept in %s", images, folder)
        scratch: Path | None = folder.parent
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            scratch = None
        index = build_index(images, masks, threshold, scratch)
        try:
            index.save(folder)
        except OSError as error:
            logger.warning("%s: the index cannot be kept (%s)", folder, error.strerror or error)
    return index


def _unique(index: ImageIndex) -> tuple[list[int], list[int]]:
    codes, counts = np.unique(index.problems, return_counts=True)
    return codes.tolist(), counts.tolist()
