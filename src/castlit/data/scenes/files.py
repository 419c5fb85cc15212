"""Scenes as files, laid out by class: photographs to try everything else on, where there are none at hand."""

from pathlib import Path, PurePosixPath

import cv2

from castlit.data.scenes.objects import OBJECTS
from castlit.data.scenes.scenes import Scenes


def scene_file(index: int, label: int) -> PurePosixPath:
    """Where scene ``index`` of a split lies below the split's folder, and its mask below that of the masks."""
    return PurePosixPath(OBJECTS[label], f"{index:05d}.png")


def write_scenes(scenes: Scenes, images: Path, masks: Path) -> None:
    """Write scenes and their exact masks as PNG, without loss.

    Args:
        scenes: What to write.
        images: Folder of the images; what is there is written over.
        masks: Folder of the masks, 0 and 255.

    Raises:
        OSError: A file cannot be written.
    """
    for name in OBJECTS:
        for folder in (images, masks):
            (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(len(scenes)):
        image, mask, label = scenes[i]
        for folder, pixels in ((images, image[..., ::-1]), (masks, mask * 255)):
            (folder / scene_file(i, label)).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
