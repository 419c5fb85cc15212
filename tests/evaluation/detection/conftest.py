"""Tiny data sets in the layouts of VOC and COCO."""

import json

import cv2
import numpy as np
import pytest

OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def annotation(size, objects):
    """VOC's XML: objects are (name, difficult, (xmin, ymin, xmax, ymax))."""
    width, height = size
    inside = "".join(
        OBJECT.format(name, int(hard), "".join(f"<{s}>{v}</{s}>" for s, v in zip(SIDES, box, strict=True)))
        for name, hard, box in objects
    )
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{inside}</annotation>"


def write_image(path, size, boxes, seed=0):
    """Noise with a plain rectangle for each box (left, top, right, bottom)."""
    width, height = size
    image = np.random.default_rng(seed).integers(0, 80, (height, width, 3), dtype=np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes):
        image[top:bottom, left:right] = (250, 60 * number, 200 - 40 * number)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture
def voc(tmp_path):
    """VOCdevkit with cats and dogs: VOC2007 (trainval: 2, test: 2) and VOC2012 (trainval: 1)."""
    root = tmp_path / "VOCdevkit"
    images = {
        ("VOC2007", "trainval"): {
            "000001": [("cat", False, (11, 21, 50, 60))],
            "000003": [("dog", True, (1, 1, 40, 40)), ("cat", False, (41, 11, 90, 60))],
        },
        ("VOC2007", "test"): {
            "000002": [("dog", False, (5, 5, 44, 64)), ("dog", True, (51, 11, 90, 50))],
            "000004": [("cat", False, (11, 11, 70, 50))],
        },
        ("VOC2012", "trainval"): {"2008_000001": [("dog", False, (21, 21, 80, 70))]},
    }
    for (edition, split), entries in images.items():
        place = root / edition
        (place / "Annotations").mkdir(parents=True, exist_ok=True)
        lists = place / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(entries) + "\n")
        for number, (name, objects) in enumerate(entries.items()):
            (place / "Annotations" / f"{name}.xml").write_text(annotation((96, 72), objects))
            boxes = [(left - 1, top - 1, right, bottom) for _, _, (left, top, right, bottom) in objects]
            write_image(place / "JPEGImages" / f"{name}.jpg", (96, 72), boxes, number)
    return root


@pytest.fixture
def coco(tmp_path):
    """COCO's layout with two categories whose ids have a gap; one crowd."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for first, split in ((1, "train2017"), (7, "val2017")):
        images, annotations = [], []
        for number in (first, first + 1):
            boxes = [(8, 8, 48, 40), (50, 20, 90, 70)]
            write_image(root / split / f"{number:012d}.jpg", (96, 72), boxes, number)
            images.append({"id": number, "file_name": f"{number:012d}.jpg", "height": 72, "width": 96})
            for category, (left, top, right, bottom) in zip((3, 18), boxes, strict=True):
                annotations.append(
                    {
                        "id": 10 * number + category,
                        "image_id": number,
                        "category_id": category,
                        "iscrowd": 0,
                        "area": (right - left) * (bottom - top),
                        "bbox": [left, top, right - left, bottom - top],
                        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                    }
                )
        annotations.append(
            {
                "id": 1000 + first,
                "image_id": first,
                "category_id": 3,
                "iscrowd": 1,
                "area": 60,
                "bbox": [0, 62, 6, 10],
                "segmentation": {"size": [72, 96], "counts": [62, 10] + [62, 10] * 5 + [72 * 90]},
            }
        )
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
