"""Masks that a training run makes for itself, as its data reads them."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from castlit.data.io.images import Encoded, read_bytes
from castlit.data.io.mask_versions import folder_of
from castlit.data.io.masks import Mask, decode_mask, fit_mask
from castlit.utils.validation import InputError

SELF = "self"
"""What users give for masks to have them made by the run."""

_NONE = -1


class MaskStore:
    """Which masks a source's images have at present: none at first, then those of an edition, later of another.

    An edition holds one 8-bit PNG for each image, at the image's relative path; see :mod:`castlit.data.io.mask_versions`. All
    processes that share this object, as a loader's workers do, turn to another edition at once.

    Args:
        split: What the images are, ``"train"`` or ``"val"``.
        images: Their paths below the images' folder.
    """

    def __init__(self, split: str, images: Iterable[str]) -> None:
        self.split = split
        self.folder: Path | None = None
        """Where the editions are; None as long as nobody makes them."""
        # a.jpg and a.png would share a mask.
        stems = Counter(os.path.splitext(name)[0] for name in images)  # noqa: PTH122 - a loop over millions
        self._shared = frozenset(stem for stem, count in stems.items() if count > 1)
        self._edition = torch.full((1,), _NONE, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def edition(self) -> int | None:
        """The edition in use; None: no image has a mask yet."""
        found = int(self._edition)
        return None if found == _NONE else found

    def turn_to(self, edition: int | None) -> None:
        """Use the masks of this edition from now on."""
        self._edition.fill_(_NONE if edition is None else edition)

    def mask_name(self, image: str) -> str:
        """Where an edition has the mask of an image: at the image's own path, with the suffix .png."""
        stem = os.path.splitext(image)[0]  # noqa: PTH122
        return f"{self.split}/{image if stem in self._shared else stem}.png"

    def read(self, image: str, shape: tuple[int, int], threshold: float) -> Mask | None:
        """An image's mask at present, (H, W) of {0, 1} for that shape; None where it has none.

        Raises:
            SampleError: Its file is gone or damaged; the message names it.
        """
        edition = self.edition
        if edition is None or self.folder is None:
            return None
        path = f"{folder_of(self.folder, edition)}/{self.mask_name(image)}"
        mask = fit_mask(decode_mask(read_bytes(path), path, threshold), path, shape)
        return mask if cv2.countNonZero(mask) else None

    def write(self, folder: Path, image: str, levels: NDArray[np.uint8]) -> None:
        """Write an image's map (h, w) into an edition that is being made in ``folder``; several threads may.

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
    """A map (h, w) as a PNG."""
    return np.asarray(cv2.imencode(".png", levels)[1], np.uint8)


def wants_own_masks(key: str, masks: str | Path | None) -> bool:
    """Whether ``masks`` asks for masks that the run makes itself.

    Args:
        key: What the user calls the argument.
        masks: What the user gave.

    Raises:
        InputError: It looks like it, but is spelt otherwise, and there is no such folder.
    """
    if isinstance(masks, str) and masks != SELF and masks.lower() == SELF and not Path(masks).exists():
        raise InputError(
            f"{key}={masks}: there is no such folder; {key}=self, in small letters, makes masks in training"
        )
    return masks == SELF
