"""Write scenes as files, in folders by class, to try commands for photographs without any."""

from pathlib import Path, PurePosixPath

import cv2

from castlit.data.io.folders import MARK
from castlit.data.scenes.objects import OBJECTS
from castlit.data.scenes.scenes import Scenes
from castlit.utils.atomic_write import ALONE, write_atomic


def scene_file(index: int, label: int) -> PurePosixPath:
    """Path of scene ``index`` relative to its split's folder of images, and of its mask relative to that of masks."""
    return PurePosixPath(OBJECTS[label], f"{index:05d}.png")


def write_scenes(scenes: Scenes, images: Path, masks: Path) -> None:
    """Write scenes and their exact masks as PNG. Until all are written, ``unfinished.json`` is in the images' folder.

    Args:
        scenes: The scenes.
        images: Folder of the images; existing files are overwritten.
        masks: Folder of the masks, 0 and 255.

    Raises:
        OSError: A file cannot be written.
    """
    for name in OBJECTS:
        for folder in (images, masks):
            (folder / name).mkdir(parents=True, exist_ok=True)
    (images / MARK).write_text("{}\n")
    for i in range(len(scenes)):
        image, mask, label = scenes[i]
        for folder, pixels in ((images, image[..., ::-1]), (masks, mask * 255)):
            data = cv2.imencode(".png", pixels)[1].tobytes()
            write_atomic(folder / scene_file(i, label), data, writer=ALONE)
    (images / MARK).unlink()
