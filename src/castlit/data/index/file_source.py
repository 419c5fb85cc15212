"""A source of images and masks in folders, read on demand."""

import logging
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.index.bad_files import check_problems, report_rows
from castlit.data.index.cache import open_index
from castlit.data.index.image_index import Entry, ImageIndex, Problem
from castlit.data.index.packed_mask import unpack_mask
from castlit.data.io.bad_samples import BadSamples, OnBad
from castlit.data.io.data_report import DataReport
from castlit.data.io.errors import EmptyMaskError, SampleError
from castlit.data.io.folders import (
    BESIDE_SUFFIXES,
    IMAGE_SUFFIXES,
    PHOTOGRAPH_SUFFIXES,
    require_folders,
    same_folder,
)
from castlit.data.io.image_header import Encoded, upright_size
from castlit.data.io.images import EncodedImage, decode_image, file_state, read_bytes
from castlit.data.io.mask_fit import Mask, fit_mask
from castlit.data.io.mask_store import MaskStore
from castlit.data.io.masks import THRESHOLD, MaskKind, decode_mask, require_mask_kind
from castlit.data.io.masks_json import describe_masks, read_masks_file
from castlit.data.io.source import Item
from castlit.utils.bytes_array import decode
from castlit.utils.validation import InputError, require_choice, require_number

logger = logging.getLogger(__name__)


class FileSource:
    """Images of a folder with their masks, read on demand.

    The mask of ``<images>/a/b/name.jpg`` is ``<masks>/a/b/name.png`` (or ``.npy``, or another image suffix if there is
    no PNG). Folders are searched recursively; names that start with a dot are skipped. Images are sorted by path. Where
    both are the same folder, ``name.png`` or ``name.npy`` is the mask of ``name.jpg`` (or of another suffix but .png)
    beside it, as in MSRA-B.

    Every image and mask is opened once, when the index is built; see :mod:`castlit.data.index.image_index`.

    Args:
        images: Folder of images (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff).
        masks: Folder of masks, or a file of COCO's instance annotations (.json), whose segmentations are the masks.
            None means no masks: crops are unconstrained and masks empty.
        on_bad: What to do with an image whose mask is missing, unreadable, empty or of another shape than the image,
            and with unreadable images. ``"error"`` stops and names them. ``"drop"`` leaves the image out.
            ``"unconstrained"`` uses the image with an empty mask: its crops are unconstrained, and it is not part of
            the attention loss; an unreadable image is left out. Both are logged. No other image replaces it.
        threshold: Fraction of a mask's full level above which a pixel is salient, in [0, 1].
        mask_kind: What the pixels of masks mean, see :func:`castlit.data.io.masks.decode_mask`.
        cache: Folder in which indices are saved, see :func:`castlit.data.index.cache.open_index`.
        report: Where bad files are listed.
        split: Name of these images in the report: ``"train"``, or ``"val"``, for which messages name the arguments
            val_images and val_masks.
        own_masks: The run makes the masks itself, see :class:`castlit.data.io.mask_store.MaskStore`; ``masks`` is None.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: One folder is inside the other; there are no images; there is no mask at all; ``on_bad`` is
            ``"error"`` and a file is bad; or the masks' ``masks.json`` cannot be read.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | None = None,
        *,
        on_bad: OnBad = "error",
        threshold: float = THRESHOLD,
        mask_kind: MaskKind = "auto",
        cache: str | Path | None = None,
        report: DataReport | None = None,
        split: str = "train",
        own_masks: bool = False,
    ) -> None:
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        prefix = "val_" if split == "val" else ""
        self.images, self.masks = require_folders(images, masks, prefix)
        self.masks_json = None if self.masks is None or self.masks.is_file() else read_masks_file(self.masks)
        """How castlit made the masks, see :mod:`castlit.data.io.masks_json`; None if it did not."""
        if self.masks_json is not None:
            logger.info("%smasks=%s: %s", prefix, self.masks, describe_masks(self.masks_json))
        self.threshold = require_number("threshold", threshold, 0, 1)
        self.mask_kind = require_mask_kind("mask_kind", mask_kind)
        self.index = open_index(self.images, self.masks, self.threshold, cache, self.mask_kind)
        if self.masks is not None and same_folder(self.images, self.masks):
            _check_beside(self.index, f"{prefix}masks={self.masks} and {prefix}images={self.images}")
        if len(self.index) == 0:
            raise InputError(
                f"{prefix}images={self.images} holds no images ({', '.join(IMAGE_SUFFIXES)}), at any depth"
            )
        if report is not None:
            report.add(report_rows(self.index, split, on_bad))
        check_problems(self.index, on_bad, str(self.masks), self._in_folder, report)
        dropped = [Problem.IMAGE_UNREADABLE] if on_bad == "unconstrained" else list(Problem)[1:]
        # Row numbers of the index; None if all rows are used, which saves the array.
        bad = np.isin(self.index.problems, dropped)
        self._rows = np.flatnonzero(~bad) if bad.any() else None
        self.bad = BadSamples(on_bad, len(self), split, report)
        self.mask_store = MaskStore(split, (self.entry(i).image for i in range(len(self)))) if own_masks else None
        """The masks that the run makes for these images; None if it makes none."""

    def __len__(self) -> int:
        return len(self.index) if self._rows is None else len(self._rows)

    def entry(self, index: int) -> Entry:
        """The index entry of image ``index``."""
        return self.index[index if self._rows is None else int(self._rows[index])]

    def image_path(self, index: int) -> Path:
        """Path of image ``index``."""
        return self.images / self.entry(index).image

    def mask_path(self, index: int) -> Path | None:
        """Path of the mask file of image ``index``; None if it has none."""
        entry = self.entry(index)
        return self.masks / entry.mask if self.masks is not None and entry.mask else None

    def read(self, index: int) -> Item:
        """Image and mask ``index``.

        Raises:
            SampleError: The image cannot be read; or the mask cannot, and ``on_bad`` is not ``"unconstrained"``. The
                message names the file.
        """
        row = index if self._rows is None else int(self._rows[index])
        entry = self.index[row]
        image, data = self._image(entry)
        height, width = image.shape[:2]
        if self.mask_store is None and (self.masks is None or entry.problem):
            return Item(image, None)
        try:
            if self.mask_store is not None:
                return Item(image, self.mask_store.read(entry.image, (height, width), self.threshold))
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
        # The index is used only if the header agrees: the file may have been replaced or rotated since.
        known = upright_size(data) == entry.size
        return EncodedImage(data, path, entry.size) if known else decode_image(data, path), data

    @property
    def _in_folder(self) -> bool:
        return self.masks is not None and self.masks.suffix.lower() != ".json"

    def _mask(self, row: int, entry: Entry, image: Encoded, shape: tuple[int, int]) -> Mask:
        """The mask: from the index, unless its file or the image's size has changed since it was indexed."""
        name = self._mask_name(entry)
        changed = shape != entry.size or list(file_state(name)) != self.index.states[row].tolist()
        if self._in_folder and changed:
            return fit_mask(decode_mask(read_bytes(name), name, self.threshold, self.mask_kind), name, shape, image)
        return fit_mask(unpack_mask(self.index.packed[row], entry.size), name, shape, image)

    def _mask_name(self, entry: Entry) -> str:
        return f"{self.masks}/{entry.mask}" if self._in_folder else f"{self.masks} ({entry.image})"


def _check_beside(index: ImageIndex, folders: str) -> None:
    """Check that a folder of both photographs and masks has pairs of them, and tell which masks are alone.

    Raises:
        InputError: It has none; the message names the folders.
    """
    if not len(index) or (index.problems == Problem.MASK_MISSING).all():
        raise InputError(
            f"{folders} are the same folder, where photographs ({', '.join(PHOTOGRAPH_SUFFIXES)}) have their masks "
            f"({', '.join(BESIDE_SUFFIXES)}) beside them; it has no such pair: give the masks a separate folder"
        )
    if len(index.orphans):
        logger.warning(
            "%s are the same folder: %d files are taken for masks without a photograph, and not used (first: %s)",
            folders,
            len(index.orphans),
            decode(index.orphans[0]),
        )
