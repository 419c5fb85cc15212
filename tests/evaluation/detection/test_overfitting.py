"""Detectors overfit four photographs: training, decoding and scoring fit together."""

import json
from functools import partial
from xml.sax.saxutils import escape

import pytest
import pytorch_lightning as pl

from castlit.evaluation.detection import evaluate_coco_segmentation, evaluate_voc_detection
from castlit.nn import build_backbone

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
RECIPE = {
    "iterations": 130,
    "drops": [90, 118],
    "batch_size": 4,
    "lr": 0.02,
    "warmup": 20,
    "min_size": [128],
    "max_size": 192,
    "anchors": (16, 32, 64, 96, 128),
    "boxes": 16,
    "proposals": 40,
    "workers": 0,
    "classes": "present",
    "trainer": partial(pl.Trainer, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False),
}


def four_of(folder, least_fill=0.0):
    """COCO's annotations of four photographs with one or two large objects that fill this fraction of their boxes."""
    content = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    objects = {}
    for thing in content["annotations"]:
        objects.setdefault(thing["image_id"], []).append(thing)

    def suits(image):
        found = objects.get(image["id"], [])
        boxes = [t["bbox"][2] * t["bbox"][3] for t in found]
        large = all(box > 0.05 * image["width"] * image["height"] for box in boxes)
        solid = all(t["area"] > least_fill * box for t, box in zip(found, boxes, strict=True))
        return 1 <= len(found) <= 2 and large and solid and not any(thing["iscrowd"] for thing in found)

    images = sorted(filter(suits, content["images"]), key=lambda image: image["id"])[:4]
    assert len(images) == 4
    return {**content, "images": images, "annotations": [t for image in images for t in objects[image["id"]]]}


def test_detection(mini, tmp_path):
    """Faster R-CNN with a C4 trunk, in VOC's layout with XML boxes."""
    four = four_of(mini)
    place = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("ImageSets/Main", "Annotations"):
        (place / folder).mkdir(parents=True)
    (place / "JPEGImages").symlink_to(mini / "train2017")
    classes = {category["id"]: category["name"] for category in four["categories"]}
    for image in four["images"]:
        boxes = [
            OBJECT.format(escape(classes[thing["category_id"]]), x + 1, y + 1, x + w, y + h)
            for thing in four["annotations"]
            if thing["image_id"] == image["id"]
            for x, y, w, h in [thing["bbox"]]
        ]
        size = f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"
        name = image["file_name"].removesuffix(".jpg")
        (place / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{''.join(boxes)}</annotation>")
    names = [image["file_name"].removesuffix(".jpg") for image in four["images"]]
    (place / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(names))
    pl.seed_everything(0, verbose=False)
    scores = evaluate_voc_detection(
        build_backbone("tiny_resnet"),
        tmp_path / "run",
        "random",
        0,
        tmp_path,
        train=["VOC2007/trainval"],
        test=["VOC2007/trainval"],
        names=list(classes.values()),
        **RECIPE,
    )
    assert scores["AP50"] > 90


@pytest.mark.timeout(1500)
def test_segmentation(mini, tmp_path):
    """Mask R-CNN with a feature pyramid. Masks of images this small cannot hold a giraffe's legs: nothing that thin."""
    four = four_of(mini, least_fill=0.4)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(four))
    (tmp_path / "train2017").symlink_to(mini / "train2017")
    pl.seed_everything(0, verbose=False)
    scores = evaluate_coco_segmentation(
        build_backbone("tiny_resnet"),
        tmp_path / "run",
        "random",
        0,
        tmp_path,
        train="train2017",
        test="train2017",
        **RECIPE,
    )
    assert scores["box_AP50"] > 90
    assert scores["mask_AP50"] > 90
