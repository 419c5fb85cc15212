"""Open an image and its mask, and find their problem."""

import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.index.image_index import Problem
from castlit.data.index.packed_mask import pack_mask
from castlit.data.index.pairing import Pair
from castlit.data.index.stray_masks import Look, look_at
from castlit.data.io.coco_annotations import AnnotationMasks
from castlit.data.io.errors import LabelMapError, MismatchError, SampleError
from castlit.data.io.image_header import Encoded, is_jpeg, upright_size
from castlit.data.io.images import decode_image, file_state, read_bytes
from castlit.data.io.mask_fit import fit_mask
from castlit.data.io.masks import MaskKind, decode_mask


class Check(NamedTuple):
    """Result of checking an image and its mask; the fields are those of the index."""

    size: tuple[int, int]
    area: float = 0.0
    problem: Problem = Problem.NONE
    detail: str = ""
    packed: bytes = b""
    state: tuple[int, int] = (0, 0)
    look: Look = Look()
    """Only where there are no masks."""


class Checker:
    """Checks pairs of images and masks.

    Args:
        images: Folder of images.
        masks: Folder of masks, file of annotations, or None.
        annotations: The content of that file.
        threshold: See :func:`castlit.data.io.masks.decode_mask`.
        kind: Likewise.
    """

    def __init__(
        self,
        images: Path,
        masks: Path | None,
        annotations: AnnotationMasks | None,
        threshold: float,
        kind: MaskKind,
    ) -> None:
        self.images, self.masks, self.annotations = images, masks, annotations
        self.threshold, self.kind = threshold, kind

    def block(self, pairs: list[Pair]) -> list[Check]:
        """Check several pairs."""
        return [self._check(*pair) for pair in pairs]

    def _check(self, name: str, mask: str, problem: Problem) -> Check:
        path = self.images / name
        try:
            data = read_bytes(path)
            size, pixels = _verify(data, str(path))
        except SampleError as error:
            return Check((0, 0), problem=Problem.IMAGE_UNREADABLE, detail=str(error))
        if self.masks is None:
            return Check(size, look=look_at(pixels))
        if problem:
            return Check(size, problem=problem, detail=self._detail(name, problem))
        state = (0, 0)
        try:
            if self.annotations is not None:
                mask_name, found = f"{self.masks} ({name})", self.annotations.mask(name)
                if found is None:
                    return Check(size, problem=Problem.MASK_MISSING, detail=f"{self.masks} does not list it")
            else:
                mask_name = f"{self.masks}/{mask}"
                state = file_state(mask_name)
                found = decode_mask(read_bytes(mask_name), mask_name, self.threshold, self.kind)
            fitted = fit_mask(found, mask_name, size, data)
        except MismatchError as error:
            return Check(size, problem=Problem.MASK_MISMATCHED, detail=str(error))
        except LabelMapError as error:
            return Check(size, problem=Problem.MASK_LABELS, detail=str(error))
        except SampleError as error:
            return Check(size, problem=Problem.MASK_UNREADABLE, detail=str(error))
        area = cv2.countNonZero(fitted) / fitted.size
        if area == 0:
            return Check(size, problem=Problem.MASK_EMPTY, detail=f"{mask_name}: nothing is salient")
        return Check(size, area, packed=pack_mask(fitted), state=state)

    def _detail(self, name: str, problem: Problem) -> str:
        if problem == Problem.MASK_MISSING:
            return f"expected {self.masks}/{os.path.splitext(name)[0]}.png"  # noqa: PTH122
        return "several images have this name and differ only in their suffix" if problem else ""


def _verify(data: Encoded, name: str) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """Decode an image as cheaply as possible, to check it, and return its upright size and the decoded pixels."""
    size = upright_size(data) if is_jpeg(data) else None
    if size is not None:
        pixels = decode_image(data, name, 8)
        if pixels.shape[:2] == (-(-size[0] // 8), -(-size[1] // 8)):
            return size, pixels
    pixels = decode_image(data, name)
    return (pixels.shape[0], pixels.shape[1]), pixels
