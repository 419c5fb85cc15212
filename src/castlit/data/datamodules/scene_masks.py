"""Training masks of the built-in scenes: exact ones, boxes, or files, to measure what the quality of masks is worth."""

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
"""A square of half the scene's side, in the centre, or at a random place that is fixed for each scene."""


def scene_masks(scenes: Scenes, masks: str | Path) -> NDArray[np.uint8]:
    """Masks of scenes.

    Args:
        scenes: The scenes.
        masks: ``"exact"``, one of BOXES, or a folder of masks that ``castlit.make_masks`` made from the images of
            ``castlit.make_scenes``. A scene without a file gets an empty mask.

    Returns:
        (N, H, W) uint8 of {0, 1}.

    Raises:
        InputError: There is no such folder, it has no mask, or one cannot be read.
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
            found[i] = read_mask(path, path.name, (scenes.size, scenes.size), kind="levels")
        else:
            missing += 1
    if missing == len(scenes):
        raise InputError(
            f"data.masks={masks}: has no mask ({path.relative_to(folder)} and so on): make them from the folder "
            "images/train of castlit.make_scenes"
        )
    if missing:
        logger.warning("%d of %d scenes have no mask in %s: their masks are empty", missing, len(scenes), folder)
    return found


def _boxes(scenes: Scenes, anywhere: bool) -> NDArray[np.uint8]:
    """One square for each scene."""
    side = scenes.size // 2
    masks = np.zeros_like(scenes.masks)
    for i, mask in enumerate(masks):
        top = left = (scenes.size - side) // 2
        if anywhere:
            top, left = np.random.default_rng([scenes.seed, i]).integers(0, scenes.size - side + 1, 2)
        mask[top : top + side, left : left + side] = 1
    return masks
