"""Draws docs/views.jpg: views of built-in scenes by albumentations pipelines, with their masks' outlines.

python docs/views_picture.py
"""

from pathlib import Path

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.crops import SaliencyCrop
from castlit.data import TwoPipelines
from castlit.data.datamodules.sampler import sample_rng
from castlit.data.scenes import Scenes

SIZE, GAP, TOP = 128, 6, 22
SCENES = (0, 1)
YELLOW = (255, 220, 0)

CROP = SaliencyCrop(SIZE)
MORE = [A.Perspective(scale=(0.1, 0.2), p=1), A.CoarseDropout(fill_mask=0, p=1)]
ROWS = [
    ("scene", "query", "key"),
    ("scene", "query, Rotate", "key"),
    ("scene", "query", "key, Perspective"),
]
PIPELINES = [([CROP], [CROP]), ([CROP, A.Rotate(limit=(-40, 40), p=1)], [CROP]), ([CROP], [CROP, *MORE])]


def outlined(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with the outline of its mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    picture = np.ascontiguousarray(image)
    cv2.drawContours(picture, contours, -1, YELLOW, 2)
    return picture


def main() -> None:
    """Draw the picture: a row for each pair of pipelines; scene, query and key of two scenes side by side."""
    scenes = Scenes(len(SCENES), size=SIZE, seed=3)
    rows = []
    for labels, (query, key) in zip(ROWS, PIPELINES, strict=True):
        views = TwoPipelines(SIZE, query, key)
        row = np.full((TOP + SIZE + GAP, 3 * len(SCENES) * (SIZE + GAP), 3), 255, np.uint8)
        for i in SCENES:
            image, mask = scenes.images[i], scenes.masks[i]
            made = views(image, mask, sample_rng(0, 0, i))
            pictures = [(image, mask), (made.query, made.query_mask), (made.key, made.key_mask)]
            for column, (label, (pixels, salient)) in enumerate(zip(labels, pictures, strict=True), 3 * i):
                left = column * (SIZE + GAP)
                row[TOP : TOP + SIZE, left : left + SIZE] = outlined(pixels, salient)
                at = (left + 2, TOP - 7)
                cv2.putText(row, label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (40, 40, 40), 1, cv2.LINE_AA)
        rows.append(row)
    file = Path(__file__).with_name("views.jpg")
    cv2.imwrite(str(file), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
