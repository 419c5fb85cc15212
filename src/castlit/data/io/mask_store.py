"""Masks that a training run makes itself (``masks="self"``), as its data reads and writes them."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.image_header import Encoded
from castlit.data.io.images import read_bytes
from castlit.data.io.mask_fit import Mask, fit_mask
from castlit.data.io.mask_versions import folder_of
from castlit.data.io.masks import decode_mask
from castlit.utils.shared_numbers import SharedNumbers
from castlit.utils.validation import InputError

SELF = "self"
"""The value of ``masks`` that has the run make them."""

_NONE = -1


class MaskStore:
    """The current masks of a source's images: none at first, then those of a version, later of a newer one.

    A version has one 8-bit PNG per image, at the image's relative path; see :mod:`castlit.data.io.mask_versions`.
    Processes that share this object, such as a loader's workers, switch versions together.

    Args:
        split: ``"train"`` or ``"val"``.
        images: Paths of the images, relative to their folder.
    """

    def __init__(self, split: str, images: Iterable[str]) -> None:
        self.split = split
        self.folder: Path | None = None
        """Folder of the versions; None while nothing makes them."""
        # a.jpg and a.png would share a mask.
        stems = Counter(os.path.splitext(name)[0] for name in images)  # noqa: PTH122 - a loop over millions
        self._shared = frozenset(stem for stem, count in stems.items() if count > 1)
        self._version = SharedNumbers(1)
        self.use_version(None)

    @property
    def version(self) -> int | None:
        """The version in use; None if no image has a mask yet."""
        version = int(self._version.values[0])
        return None if version == _NONE else version

    def use_version(self, version: int | None) -> None:
        """Use the masks of this version from now on."""
        self._version.values[0] = _NONE if version is None else version

    def mask_name(self, image: str) -> str:
        """Path of an image's mask within a version: the image's own path, with the suffix .png."""
        stem = os.path.splitext(image)[0]  # noqa: PTH122
        return f"{self.split}/{image if stem in self._shared else stem}.png"

    def read(self, image: str, shape: tuple[int, int], threshold: float) -> Mask | None:
        """An image's current mask, (H, W) of {0, 1} at the given shape; None if it has none or it is empty.

        Raises:
            SampleError: The file is missing or damaged; the message names it.
        """
        version = self.version
        if version is None or self.folder is None:
            return None
        path = f"{folder_of(self.folder, version)}/{self.mask_name(image)}"
        mask = fit_mask(decode_mask(read_bytes(path), path, threshold, "levels"), path, shape)
        return mask if cv2.countNonZero(mask) else None

    def write(self, folder: Path, image: str, levels: NDArray[np.uint8]) -> None:
        """Write an image's map (h, w) into a version that is being made in ``folder``; thread-safe.

        Raises:
            InputError: It cannot be written.
        """
        path = folder / self.mask_name(image)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_map(levels).tobytes())
        except OSError as error:
            raise InputError(f"{path}: the mask cannot be written ({error.strerror or error})") from None


def encode_map(levels: NDArray[np.uint8]) -> Encoded:
    """Encode a map (h, w) as PNG."""
    return np.asarray(cv2.imencode(".png", levels)[1], np.uint8)


def is_self(key: str, masks: str | Path | None) -> bool:
    """Whether ``masks`` asks for masks that the run makes itself.

    Args:
        key: Name of the argument, for the message.
        masks: The user's value.

    Raises:
        InputError: It is ``"self"`` with other capital letters, and there is no such folder.
    """
    if isinstance(masks, str) and masks != SELF and masks.lower() == SELF and not Path(masks).exists():
        raise InputError(
            f"{key}={masks}: there is no such folder; {key}=self, in small letters, makes masks in training"
        )
    return masks == SELF
