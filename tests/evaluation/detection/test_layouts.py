"""Reading VOC's and COCO's layouts, and messages about broken data."""

import json

import numpy as np
import pytest

from castlit.evaluation.detection import read_coco, read_voc
from castlit.evaluation.detection.coco_layout import object_mask
from castlit.evaluation.detection.records import choose_classes
from castlit.utils.validation import InputError

TRAIN, TEST = ("VOC2007/trainval", "VOC2012/trainval"), ("VOC2007/test",)


def test_voc_boxes_and_difficult_objects(voc):
    found = read_voc(voc, TRAIN, TEST)
    assert [len(found.train), len(found.test), len(found.classes)] == [3, 2, 20]
    hard = found.train[1]
    assert hard.path == voc / "VOC2007" / "JPEGImages" / "000003.jpg"
    assert hard.boxes.tolist() == [[0, 0, 40, 40], [40, 10, 90, 60]]
    assert [found.classes[label - 1] for label in hard.labels] == ["dog", "cat"]
    assert (hard.learnt.tolist(), hard.ignored.tolist()) == ([True, True], [True, False])
    assert (hard.width, hard.height, hard.areas.tolist()) == (96, 72, [1600, 2500])
    assert found.train[2].path.parts[-3] == "VOC2012"
    # The parent folder works, too.
    assert read_voc(voc.parent, TRAIN, TEST).test[0].path == found.test[0].path


def test_choose_classes(voc):
    found = read_voc(voc, TRAIN, TEST)
    present = choose_classes(found, "present", "a", "b")
    assert present.classes == ["cat", "dog"]
    assert present.train[1].labels.tolist() == [2, 1]
    dogs = choose_classes(found, ["dog"], "a", "b")
    assert [record.labels.tolist() for record in dogs.train] == [[1], [1]]  # the image without dogs is gone
    assert [record.labels.tolist() for record in dogs.test] == [[1, 1], []]  # but is tested on
    with pytest.raises(InputError, match=r"^a has no object of aeroplane, bicycle, bird, ... \(18 in all\): .*present"):
        choose_classes(found, "all", "a", "b")
    with pytest.raises(InputError, match=r"'dgo' is not among those of a \(did you mean 'dog'\?\)"):
        choose_classes(found, ["dgo"], "a", "b")
    with pytest.raises(InputError, match=r"all, present, or a list"):
        choose_classes(found, "some", "a", "b")


def test_class_with_only_difficult_objects(voc):
    file = voc / "VOC2007" / "Annotations" / "000002.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    with pytest.raises(InputError, match=r"^b has no object of dog"):
        choose_classes(read_voc(voc, TRAIN, TEST), ["cat", "dog"], "a", "b")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda xml: xml[:60], r"000001.xml: is not one of VOC's annotations"),
        (
            lambda xml: xml.replace("<name>cat</name>", ""),
            r"000001.xml: is not one of VOC's annotations \(without name",
        ),
        (lambda xml: xml.replace("<xmin>11", "<xmin>left"), r"000001.xml: is not one of VOC's annotations"),
        (lambda xml: xml.replace("<xmin>11", "<xmin>51"), r"000001.xml: has a box that is empty or outside"),
        (lambda xml: xml.replace("<xmax>50", "<xmax>500"), r"000001.xml: has a box that is empty or outside"),
        (lambda xml: xml.replace("<xmax>50", "<xmax>nan"), r"000001.xml: has a box that is empty or outside"),
        (lambda xml: xml.replace("cat", "kat"), r"000001.xml: 'kat' is none of VOC's 20 classes"),
        (lambda xml: None, r"000001.xml: cannot be read"),
    ],
)
def test_broken_voc_annotation(voc, change, line):
    file = voc / "VOC2007" / "Annotations" / "000001.xml"
    changed = change(file.read_text())
    file.unlink()
    if changed is not None:
        file.write_text(changed)
    with pytest.raises(InputError, match=line):
        read_voc(voc, TRAIN, TEST)


def test_missing_voc_files(voc, tmp_path):
    with pytest.raises(InputError, match=r"data.root is missing: give VOCdevkit"):
        read_voc(None, TRAIN, TEST)
    with pytest.raises(InputError, match=r"data.root=.*nowhere: no such folder; give VOCdevkit"):
        read_voc(tmp_path / "nowhere", TRAIN, TEST)
    with pytest.raises(InputError, match=r"has no folder VOC2009"):
        read_voc(voc, ("VOC2009/trainval",), TEST)
    with pytest.raises(InputError, match=r"Main.val.txt is missing: it lists the images of VOC2007/val"):
        read_voc(voc, ("VOC2007/val",), TEST)
    with pytest.raises(InputError, match=r"protocol.train and protocol.test need a split each"):
        read_voc(voc, (), TEST)
    with pytest.raises(InputError, match=r"'test' must be a folder of data.root and a list"):
        read_voc(voc, TRAIN, ("test",))
    (voc / "VOC2007" / "JPEGImages" / "000004.jpg").unlink()
    with pytest.raises(InputError, match=r"000004.jpg is missing: .*000004.xml is its annotation"):
        read_voc(voc, TRAIN, TEST)
    (voc / "VOC2007" / "ImageSets" / "Main" / "test.txt").write_text("\n")
    with pytest.raises(InputError, match=r"test.txt lists no images"):
        read_voc(voc, TRAIN, TEST)


def test_coco_instances(coco):
    found = read_coco(coco)
    assert found.classes == ["car", "dog"]  # sorted by id
    first, second = found.train
    assert first.boxes.tolist() == [[8, 8, 48, 40], [50, 20, 90, 70], [0, 62, 6, 72]]
    assert first.labels.tolist() == [1, 2, 1]
    assert (first.learnt.tolist(), first.ignored.tolist()) == ([True, True, False], [False, False, True])
    assert second.labels.tolist() == [1, 2]
    crowd = object_mask(first.segments[2], 72, 96)
    assert crowd[62:, :6].all()
    assert crowd.sum() == 60
    assert object_mask(first.segments[0], 72, 96).sum() == 40 * 32


def test_categories_that_the_splits_number_differently(coco):
    file = coco / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    first, second = content["categories"]
    first["name"], second["name"] = second["name"], first["name"]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"val2017.json: category \d+ is \w+, but \w+ in instances_train2017.json"):
        read_coco(coco)


def test_empty_box_is_not_learnt(coco):
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"][1]["bbox"] = [90, 60, 50, 50]  # beyond the image
    file.write_text(json.dumps(content))
    record = read_coco(coco).train[0]
    assert record.learnt.tolist() == [False, True, False]
    assert np.array_equal(record.boxes[1], [90, 60, 96, 72])


def test_missing_area_is_the_boxs(coco):
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["area"] = None
    content["annotations"][1].pop("area", None)
    file.write_text(json.dumps(content))
    assert read_coco(coco).train[0].areas.tolist()[:2] == [40 * 32, 40 * 50]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c["annotations"][0].pop("bbox"), r"is not COCO's instance annotations: .*bbox"),
        (
            lambda c: c["annotations"][0].update(category_id=99),
            r".*category_id 99 of .*jpg is not among the categories",
        ),
        (
            lambda c: c["annotations"][0].update(bbox=[1, float("nan"), 2, 2]),
            r".*a box of .*jpg is not finite",
        ),
        (lambda c: c["annotations"][0].update(image_id=99), r"annotations of an image that it does not list.* 99"),
        (lambda c: c["images"][0].update(height=float("inf")), r"is not COCO's instance annotations: .*infinity"),
        (lambda c: c["images"][0].update(width=2**30), r"is not COCO's instance annotations: .*width 1073741824"),
        (lambda c: c["annotations"][0].update(bbox=[1, 10**400, 2, 2]), r"is not COCO's instance annotations: .*large"),
        (lambda c: c["images"][0].pop("height"), r"is not COCO's instance annotations: .*height"),
        (lambda c: c.pop("categories"), r"its categories need id and name"),
        (lambda c: c["images"].clear() or c["annotations"].clear(), r"lists no images"),
        (lambda c: c["images"].append(c["images"][0]), r"lists two images with the id"),
        (lambda c: c["annotations"][0].update(area=float("inf")), r".*the area of annotation .* is inf"),
        (lambda c: c.pop("images"), r"it needs the keys images and annotations"),
    ],
)
def test_broken_coco_annotations(coco, change, line):
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"instances_train2017.json.*{line}"):
        read_coco(coco)


def test_missing_coco_files(coco, tmp_path):
    with pytest.raises(InputError, match=r"data.root is missing: give COCO's folder"):
        read_coco(None)
    with pytest.raises(InputError, match=r"data.root=.*nowhere: no such folder; give COCO's"):
        read_coco(tmp_path / "nowhere")
    with pytest.raises(
        InputError, match=r"instances_test2017.json is missing: give data.root=.*or choose other splits"
    ):
        read_coco(coco, test="test2017")
    image = coco / "train2017" / "000000000002.jpg"
    image.rename(coco / "elsewhere.jpg")
    with pytest.raises(InputError, match=r"000000000002.jpg is missing: instances_train2017.json lists it"):
        read_coco(coco)
    (coco / "elsewhere.jpg").rename(image)
    file = coco / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(InputError, match=r"instances_val2017.json: is no JSON"):
        read_coco(coco)
    (coco / "val2017").rename(coco / "elsewhere")
    with pytest.raises(InputError, match=r"val2017 is missing: the images of instances_val2017.json"):
        read_coco(coco)


def test_invalid_test_segmentation(coco):
    file = coco / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    for segmentation, words in (
        ({"size": [1, 2], "counts": "x"}, r"size \[1, 2\]"),
        ([[0, 0, 5, 0, 1e9, 5]], "a coordinate of 1e[+]09"),  # to fill it would take for ever
        ([[0, 0, 5, 0, float("nan"), 5]], "a coordinate of nan"),
    ):
        content["annotations"][1]["segmentation"] = segmentation
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match=rf"val2017.*jpg: a segmentation of this image is not COCO's .*{words}"):
            read_coco(coco)


def test_same_name_in_another_folder_is_another_image(coco):
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    name = content["images"][0]["file_name"]
    content["images"][0]["file_name"] = f"sub/{name}"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"sub/{name} is missing"):
        read_coco(coco)
    (coco / "train2017" / "sub").mkdir()
    (coco / "train2017" / name).rename(coco / "train2017" / "sub" / name)
    read_coco(coco)


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg"])
def test_images_outside_of_the_folder(voc, coco, name):
    (coco.parent / "secret.jpg").write_bytes(b"not to be read")
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"instances_train2017.json: '{name}' leads out of the folder of the images"):
        read_coco(coco)
    (voc / "VOC2007" / "ImageSets" / "Main" / "trainval.txt").write_text(f"{name}\n")
    with pytest.raises(InputError, match=rf"trainval.txt: '{name}' leads out of the folder of the images"):
        read_voc(voc, TRAIN, TEST)
