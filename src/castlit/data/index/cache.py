"""Open the index of a folder from the cache, or build it and save it there."""

import hashlib
import logging
import tempfile
from pathlib import Path

from castlit.data.index.build import build_index, is_current
from castlit.data.index.image_index import ImageIndex
from castlit.data.io.masks import MaskKind

logger = logging.getLogger(__name__)


def open_index(
    images: Path, masks: Path | None, threshold: float, cache: str | Path | None, kind: MaskKind = "auto"
) -> ImageIndex:
    """The index of a folder of images: from the cache if it is up to date, otherwise built and saved there.

    Args:
        images: Folder of images.
        masks: Folder of masks, COCO's instance annotations (.json), or None.
        threshold: See :func:`castlit.data.io.masks.decode_mask`.
        cache: Folder of indices, each in its own subfolder. None builds the index in memory. If the cache cannot be
            written to, the index is used without saving it, with a warning.
        kind: See :func:`castlit.data.io.masks.decode_mask`.

    Raises:
        OSError: A folder cannot be read.
        InputError: The annotations cannot be used.
    """
    if cache is None:
        return build_index(images, masks, threshold, kind)
    inputs = str(images.resolve()), str(masks and masks.resolve()), threshold, kind
    key = hashlib.sha256(repr(inputs).encode()).hexdigest()
    folder = Path(cache).expanduser().absolute() / f"{images.name}-{key[:12]}"
    index = ImageIndex.open(folder, lambda stamp: is_current(stamp, images, masks, threshold, kind))
    if index is None:
        logger.info("Indexing %s; the index is saved in %s", images, folder)
        scratch: Path | None = folder.parent
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=scratch):
                pass
        except OSError:
            scratch = None  # it is built in the system's temporary folder, and saving it will warn
        index = build_index(images, masks, threshold, kind, scratch)
        try:
            index.save(folder)
        except OSError as error:
            logger.warning("%s: the index cannot be saved (%s)", folder, error.strerror or error)
    return index
