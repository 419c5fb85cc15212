"""What training on the built-in scenes takes for their masks: the exact ones, or worse, to see what masks are worth."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.masks import read_mask
from castlit.data.scenes import Scenes
from castlit.data.scenes.files import scene_file
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

BOXES = ("centre_box", "random_box")
"""A square of half the scene's side: in the middle, or anywhere, for each scene at one place for good."""


def scene_masks(scenes: Scenes, masks: str | Path) -> NDArray[np.uint8]:
    """Masks of scenes.

    Args:
        scenes: Whose.
        masks: ``"exact"``, one of BOXES, or a folder of masks that ``castlit.make_masks`` made of what
            ``castlit.make_scenes`` wrote. Where a scene has no file there, its mask is empty.

    Returns:
        (N, H, W) uint8 of {0, 1}.

    Raises:
        InputError: There is no such folder, no mask in it, or one that cannot be read.
    """
    if masks == "exact":
        return scenes.masks
    if masks in BOXES:
        return _boxes(scenes, anywhere=masks == "random_box")
    folder = Path(str(masks)).expanduser()
    if not folder.is_dir():
        raise InputError(f"data.masks={masks}: no such folder; give exact, {', '.join(BOXES)} or a folder of masks")
    found = np.zeros_like(scenes.masks)
    missing = 0
    for i in range(len(scenes)):
        path = folder / scene_file(i, int(scenes.objects[i]))
        if path.is_file():
            found[i] = read_mask(path, path.name, (scenes.size, scenes.size))
        else:
            missing += 1
    if missing == len(scenes):
        raise InputError(
            f"data.masks={masks}: no mask is there ({path.relative_to(folder)} and so on): make them of the folder "
            "images/train of castlit.make_scenes"
        )
    if missing:
        logger.warning("%d of %d scenes have no mask in %s: theirs are empty", missing, len(scenes), folder)
    return found


def _boxes(scenes: Scenes, anywhere: bool) -> NDArray[np.uint8]:
    """A square for each scene."""
    side = scenes.size // 2
    masks = np.zeros_like(scenes.masks)
    for i, mask in enumerate(masks):
        top = left = (scenes.size - side) // 2
        if anywhere:
            top, left = np.random.default_rng([scenes.seed, i]).integers(0, scenes.size - side + 1, 2)
        mask[top : top + side, left : left + side] = 1
    return masks
