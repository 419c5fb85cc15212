"""Pair images with the masks that have their paths."""

from pathlib import Path

from castlit.data.index.image_index import Problem
from castlit.data.io.folders import (
    BESIDE_SUFFIXES,
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    PHOTOGRAPH_SUFFIXES,
    Folder,
    by_stem,
    join,
    same_folder,
)
from castlit.utils.validation import InputError

Pair = tuple[str, str, Problem]
"""Paths of image and mask (empty if none), and the problem of the pairing."""


def pair_files(images: list[Folder], masks: list[Folder] | None, *, together: bool) -> tuple[list[Pair], list[str]]:
    """Images sorted by path, each with its mask; and the masks without an image.

    Args:
        images: The images' folders.
        masks: The masks' folders; None if masks are not in folders.
        together: Whether these are the images' folders, too.
    """
    pairs: list[Pair] = []
    orphans: list[str] = []
    image_suffixes = PHOTOGRAPH_SUFFIXES if together else IMAGE_SUFFIXES
    mask_suffixes = BESIDE_SUFFIXES if together else MASK_SUFFIXES
    by_path = {folder.path: folder for folder in masks or ()}
    for folder in images:
        mask_folder = by_path.get(folder.path)
        found = {} if mask_folder is None else by_stem(mask_folder.files, mask_suffixes)
        for stem, names in by_stem(folder.files, image_suffixes).items():
            mask = found.pop(stem, None)
            for name in names:
                problem = Problem.NONE
                if masks is not None:
                    shared = len(names) > 1
                    problem = Problem.MASK_MISSING if mask is None else Problem.MASK_SHARED if shared else problem
                pairs.append((join(folder.path, name), join(folder.path, mask[0]) if mask else "", problem))
        orphans += [join(folder.path, name) for names in found.values() for name in names]
    pairs.sort()
    return pairs, sorted(orphans)


def refuse_linked(images: Path, folders: list[Folder], masks: Path) -> None:
    """Check that no link among the images leads to the masks.

    Raises:
        InputError: One does.
    """
    if same_folder(images, masks):
        return
    inside = masks.resolve()
    for folder in folders:
        place = (images / folder.path).resolve()
        if place == inside or inside in place.parents:
            raise InputError(
                f"masks={masks} are also in images={images}, by the link {folder.path}, and would be read as images: "
                "remove the link, or give another folder of images"
            )
