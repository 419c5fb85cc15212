"""Find masks among the images of a folder for which no masks were given: they would be trained on as photographs."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_GREY = 16  # largest difference between the channels of a grey pixel; JPEGs change a few levels
_NEAR = 8  # levels of black and white
_BLACK_WHITE = 0.95  # fraction of a mask's pixels that are black or white
_ALIKE = 0.9  # fraction of a group's images
_SAYS_MASK = re.compile(
    r"[-_. ]*(?<![a-z])(?:masks?|gt|groundtruth|seg(?:mentation)?|labels?|annotations?|matte)(?![a-z])[-_. ]*", re.I
)


class Look(NamedTuple):
    """What an image looks like."""

    grey: bool = False
    black_white: bool = False


def look_at(image: NDArray[np.uint8]) -> Look:
    """Look at an image (H, W, 3)."""
    red, green, blue = cv2.split(image)
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    if (spread > _GREY).any():
        return Look(False, False)
    dark, bright = np.count_nonzero(green <= _NEAR), np.count_nonzero(green >= 255 - _NEAR)
    return Look(True, bool(dark and bright and dark + bright >= _BLACK_WHITE * green.size))


def stray_masks(names: Sequence[str], grey: NDArray[np.bool_], black_white: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which images are masks of others, to all appearances.

    Images are compared in groups: those of a folder with the same suffix, and apart from these those whose names say
    that they are masks (``a_mask.png``). The images of a group are masks if they are grey and have the names of images
    in colour; or if they are black and white while the images of other groups are not.

    Args:
        names: Paths of the images.
        grey: (N,) whether an image is grey.
        black_white: (N,) whether it is black and white.

    Returns:
        (N,) whether it is one.
    """
    groups: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    stems = []
    for row, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        stem, suffix = os.path.splitext(file)  # noqa: PTH122 - a loop over millions
        plain = _SAYS_MASK.sub("", stem)
        stems.append(plain)
        groups[folder, suffix.lower(), plain != stem].append(row)
    found = np.zeros(len(names), bool)
    suspects = {key: rows for key, rows in groups.items() if len(rows) > 1 and np.mean(grey[rows]) >= _ALIKE}
    drawn = [key for key, rows in suspects.items() if np.mean(black_white[rows]) >= _ALIKE]
    colour = [rows for key, rows in groups.items() if key not in suspects]
    if not colour and len(drawn) == len(groups):
        return found  # nothing else: these are the images
    coloured = [{stems[row] for row in rows if not grey[row]} for rows in colour]
    for key, rows in suspects.items():
        mine = {stems[row] for row in rows}
        twins = any(len(mine & theirs) >= _ALIKE * len(mine) for theirs in coloured)
        found[rows] = twins or key in drawn
    return found
