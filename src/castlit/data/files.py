"""Images and masks in folders: which mask belongs to which image, and reading a pair."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from castlit.data.datasets import Item
from castlit.data.errors import SampleError
from castlit.data.reading import read_image, read_mask
from castlit.data.strings import StringArray
from castlit.nn.checks import InputError, require_choice

OnBad = Literal["error", "drop", "unconstrained"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""What counts as an image, in the order in which a mask is looked for."""

_NAMED = 5  # names listed in a message

logger = logging.getLogger(__name__)


class FileSource:
    """Images of a folder with their masks, read on demand.

    An image at ``a/b/name.jpg`` below ``images`` has its mask at ``a/b/name.png`` below ``masks`` (or another image
    suffix where there is no PNG). Folders are searched recursively; names starting with a dot are passed over. The
    order is that of the sorted paths.

    Args:
        images: Folder of images (.jpg, .jpeg, .png, .webp, .bmp).
        masks: Folder of masks; None means there are none: crops are unconstrained and masks empty.
        on_bad: What to do about an image without a mask, or a file that cannot be read. ``"error"`` stops and names
            them. ``"drop"`` goes on without the image. ``"unconstrained"`` keeps an image whose mask is missing or
            unreadable, with an empty mask, and drops an unreadable image. Either is logged; no other image ever takes
            its place.
        prefix: What messages put before "images" and "masks", so that they name the right argument.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: There are no images; two images differ in their suffix only; or no mask is found at all or, with
            ``"error"``, one is missing.
    """

    def __init__(
        self, images: str | Path, masks: str | Path | None = None, *, on_bad: OnBad = "error", prefix: str = ""
    ) -> None:
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        self.on_bad = on_bad
        self.images = require_folder(f"{prefix}images", images, "the photographs")
        self.masks = None if masks is None else require_folder(f"{prefix}masks", masks, "the saliency masks")
        image_names = _image_names(self.images)
        if not image_names:
            raise InputError(f"{prefix}images={self.images} holds no images ({', '.join(SUFFIXES)}), at any depth")
        mask_names = [""] * len(image_names) if self.masks is None else self._pair(image_names, self.masks)
        if on_bad == "drop" and self.masks is not None:
            kept = [i for i, name in enumerate(mask_names) if name]
            image_names, mask_names = [image_names[i] for i in kept], [mask_names[i] for i in kept]
        # Packed, not lists: workers would copy a list's pages only by counting references to its strings.
        self.image_names, self.mask_names = StringArray(image_names), StringArray(mask_names)
        self._logged: set[int] = set()

    def __len__(self) -> int:
        return len(self.image_names)

    def image_path(self, index: int) -> Path:
        """Where image ``index`` is."""
        return self.images / self.image_names[index]

    def mask_path(self, index: int) -> Path | None:
        """Where the mask of image ``index`` is, if it has one."""
        name = self.mask_names[index]
        return None if self.masks is None or not name else self.masks / name

    def read(self, index: int) -> Item | None:
        """Image and mask ``index``; None where a file is unreadable and ``on_bad`` says to go on.

        Raises:
            SampleError: A file is unreadable and ``on_bad`` is ``"error"``; the message names it.
        """
        try:
            image = read_image(self.image_path(index))
        except SampleError as error:
            self._report(index, error, "left out")
            return None
        mask_path = self.mask_path(index)
        if mask_path is None:
            return Item(image, None)
        try:
            return Item(image, read_mask(mask_path, self.image_path(index), image.shape[:2]))
        except SampleError as error:
            keep = self.on_bad == "unconstrained"
            self._report(index, error, "its image goes on without a mask" if keep else "its image is left out")
            return Item(image, None) if keep else None

    def _report(self, index: int, error: SampleError, consequence: str) -> None:
        """Log a bad file once, or raise where the user wants to know at once."""
        if self.on_bad == "error":
            raise SampleError(f"{error}; repair or remove it, or set on_bad=drop to train without it") from None
        if index not in self._logged:
            self._logged.add(index)
            logger.warning("%s; %s (on_bad=%s)", error, consequence, self.on_bad)

    def _pair(self, image_names: list[str], masks: Path) -> list[str]:
        by_stem: dict[str, str] = {}
        for name in sorted(_walk(masks), key=lambda name: SUFFIXES.index(Path(name).suffix.lower())):
            by_stem.setdefault(_stem(name), name)
        pairs = [by_stem.get(_stem(name), "") for name in image_names]
        missing = [name for name, mask in zip(image_names, pairs, strict=True) if not mask]
        if not missing:
            return pairs
        problem = f"{len(missing)} of {len(pairs)} images have no mask in {masks}: {_some(missing)}"
        if len(missing) == len(pairs) and self.on_bad != "unconstrained":
            example = _stem(image_names[0]) + ".png"
            raise InputError(f"none of the {len(pairs)} images has a mask: expected {masks / example} and so on")
        if self.on_bad == "error":
            raise InputError(f"{problem}; set on_bad=drop to leave them out or on_bad=unconstrained to keep them")
        logger.warning("%s; on_bad=%s", problem, self.on_bad)
        return pairs


def require_folder(key: str, path: str | Path, content: str) -> Path:
    """Return ``path`` if it is a folder.

    Raises:
        FileNotFoundError: It is not; the message names the argument and what belongs there.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{key}={folder} {what}: give the folder that holds {content}")
    return folder


def _image_names(folder: Path) -> list[str]:
    names = sorted(_walk(folder))
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_stem(name), name)
        if other != name:
            raise InputError(f"{folder / other} and {folder / name} would share one mask: rename or remove one of them")
    return names


def _walk(folder: Path) -> Iterator[str]:
    """Paths of the image files below ``folder``, relative to it, with forward slashes."""
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(where).relative_to(folder)
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield (inside / name).as_posix()


def _stem(name: str) -> str:
    return name[: name.rindex(".")]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
