"""Folders of images by class, as in ImageNet: ``<split>/<class>/*.jpg``."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from castlit.data.io.folders import IMAGE_SUFFIXES, is_skipped, require_folder, walk
from castlit.evaluation.frozen.images import ImageList
from castlit.utils.validation import InputError


def class_names(folder: Path) -> list[str]:
    """Return the folder's subfolders, sorted as text; a class's number is its index.

    Raises:
        InputError: There are fewer than two.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not is_skipped(entry.name))
    if len(names) < 2:
        raise InputError(f"{folder} holds {len(names)} folders: there must be at least two, one for each class")
    return names


def read_class_folders(
    folder: str | Path, key: str, classes: Sequence[str] | None = None
) -> tuple[ImageList, list[str]]:
    """List the images below a folder with one subfolder for each class.

    Args:
        folder: That folder.
        key: The key that the user gave it under, for messages.
        classes: The classes it must have, by number; None: those that exist.

    Returns:
        The images with their labels, class by class, sorted by path; and the classes' names.

    Raises:
        InputError: Classes are missing, unknown, or without images.
        FileNotFoundError: There is no such folder.
    """
    top = require_folder(key, folder, "one folder of images for each class")
    names = class_names(top)
    if classes is not None and names != list(classes):
        differing = sorted(set(names) ^ set(classes))
        raise InputError(f"{top} does not have the classes of the training images: {', '.join(differing[:5])} differ")
    paths: list[str] = []
    counts = []
    for name in names:
        found = [
            f"{top / name}/{part.path}/{file}" if part.path else f"{top / name}/{file}"
            for part in walk(top / name)
            for file in part.files
            if file.lower().endswith(IMAGE_SUFFIXES)
        ]
        if not found:
            raise InputError(f"{top / name} holds no image: add some ({' '.join(IMAGE_SUFFIXES)}) or remove the folder")
        paths += found
        counts.append(len(found))
    return ImageList(paths, np.repeat(np.arange(len(names)), counts)), names
