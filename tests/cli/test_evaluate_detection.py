"""``castlit.evaluate +protocol=voc_detection`` and ``coco_segmentation`` from the command line, on photographs."""

import json

import pytest

SMALL = [
    "checkpoint=random",
    "backbone=tiny_resnet",
    "protocol.iterations=4",
    "protocol.batch_size=2",
    "protocol.min_size=[64]",
    "protocol.max_size=96",
    "protocol.boxes=4",
    "protocol.proposals=5",
    "protocol.workers=0",
    "protocol.classes=present",
    "protocol.trainer.accelerator=cpu",
    "protocol.trainer.log_every_n_steps=1",
    "hydra.run.dir=run",
]
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


@pytest.fixture
def some_coco(mini, tmp_path):
    """COCO's layout with six photographs in each split."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        content = json.loads((mini / "annotations" / f"instances_{split}.json").read_text())
        images = content["images"][:6]
        numbers = {image["id"] for image in images}
        objects = [thing for thing in content["annotations"] if thing["image_id"] in numbers]
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps({**content, "images": images, "annotations": objects}))
        (root / split).symlink_to(mini / split)
    return root


@pytest.fixture
def devkit(mini, tmp_path):
    """VOCdevkit with photographs and XML boxes of people: only VOC2007, without difficult flags."""
    place = tmp_path / "VOCdevkit" / "VOC2007"
    (place / "ImageSets" / "Main").mkdir(parents=True)
    (place / "Annotations").mkdir()
    (place / "JPEGImages").mkdir()
    content = json.loads((mini / "annotations" / "instances_train2017.json").read_text())
    people = {}
    for thing in content["annotations"]:
        if thing["category_id"] == 1 and not thing["iscrowd"]:
            people.setdefault(thing["image_id"], []).append(thing["bbox"])
    images = [image for image in content["images"] if image["id"] in people][:6]
    for image in images:
        name = image["file_name"].removesuffix(".jpg")
        (place / "JPEGImages" / f"{name}.jpg").symlink_to(mini / "train2017" / image["file_name"])
        boxes = [OBJECT.format("person", x + 1, y + 1, x + w, y + h) for x, y, w, h in people[image["id"]]]
        size = f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"
        (place / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{''.join(boxes)}</annotation>")
    names = [image["file_name"].removesuffix(".jpg") for image in images]
    (place / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(names[:4]))
    (place / "ImageSets" / "Main" / "test.txt").write_text("\n".join(names[4:]))
    return tmp_path / "VOCdevkit"


def metrics_of(folder):
    return json.loads((folder / "results.json").read_text())["results"]


def test_voc_detection_and_resume(run_program, devkit, tmp_path):
    words = ["+protocol=voc_detection", *SMALL, f"data.root={devkit}", "protocol.train=[VOC2007/trainval]"]
    result = run_program("evaluate", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = metrics_of(tmp_path / "run")
    assert set(metrics) == {"AP", "AP50", "AP75"}
    assert all(0 <= value <= 100 for value in metrics.values())
    for text in ("54.2", "47.5", "unverified", "DenseCL"):
        assert text in result.stdout
    assert "Traceback" not in result.stderr
    rows = (tmp_path / "run" / "metrics.csv").read_text()
    assert "train/rpn_box_reg" in rows
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    again = run_program("evaluate", *words, "protocol.resume=last", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "at epoch 2, step 4" in again.stdout
    assert metrics_of(tmp_path / "run") == metrics


def test_coco_segmentation(run_program, some_coco, tmp_path):
    words = ["+protocol=coco_segmentation", *SMALL, f"data.root={some_coco}", "protocol.anchors=[8,16,32,48,64]"]
    result = run_program("evaluate", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert list(metrics_of(tmp_path / "run")) == [f"{k}_{f}" for k in ("box", "mask") for f in ("AP", "AP50", "AP75")]
    assert "SlotCon" in result.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["backbone=mobilenet_v3_small"], "random is no ResNet: detectors read the stages layer1 to layer4"),
        (["protocol.classes=all"], "VOC2007/trainval has no object of aeroplane"),
        (["protocol.test=[VOC2007/val]"], "val.txt is missing: it lists the images of VOC2007/val"),
        (["protocol.architecture=yolo"], "protocol.architecture must be one of c4, fpn"),
        (["data.root=null"], "data.root is missing: give VOCdevkit"),
        (["data.root=/no/such"], "data.root=/no/such: no such folder; give VOCdevkit"),
        (["protocol.resume=/no/such.ckpt"], "protocol.resume=/no/such.ckpt: no such file"),
    ],
)
def test_one_line_errors(run_program, devkit, tmp_path, words, line):
    given = ["+protocol=voc_detection", *SMALL, f"data.root={devkit}", "protocol.train=[VOC2007/trainval]", *words]
    result = run_program("evaluate", *given, cwd=tmp_path)
    assert result.returncode == 1
    assert line in result.stderr
    assert "Traceback" not in result.stderr
