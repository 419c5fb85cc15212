import csv

import numpy as np
import pytest
import torch
from torch import nn

from castlit.evaluation.voc07 import VOC_CLASSES, evaluate_voc07, read_voc_lists
from castlit.utils.validation import InputError

CPU = torch.device("cpu")


@pytest.fixture
def own_names(devkit):
    """The same lists under names that are not VOC's."""
    for file in (devkit / "VOC2007" / "ImageSets" / "Main").glob("*_*.txt"):
        file.rename(file.with_name(f"my{file.name}"))
    return devkit


class Colours(nn.Module):
    """Perfect features: the similarity of each position to each of the three colours."""

    def forward(self, x):
        red, green, blue = x[:, 0], x[:, 1], x[:, 2]
        return torch.stack([red - green - blue, green - red - blue, blue - red - green], 1).relu()


def test_read_lists(own_names):
    lists = read_voc_lists(own_names, "trainval")
    assert lists.classes == ["mycat", "mydog", "myperson"]
    assert lists.labels.shape == (24, 3)
    assert set(np.unique(lists.labels)) == {-1, 1}
    assert lists.images.path(3).endswith("VOC2007/JPEGImages/trainval003.jpg")
    same = read_voc_lists(own_names / "VOC2007", "trainval")
    np.testing.assert_array_equal(same.labels, lists.labels)
    np.testing.assert_array_equal(read_voc_lists(own_names.parent, "trainval").labels, lists.labels)


def test_own_classes_beside_those_of_voc(devkit):
    """Helmets and people: the other nineteen lists of VOC are not missing."""
    main = devkit / "VOC2007" / "ImageSets" / "Main"
    for split in ("trainval", "test"):
        (main / f"cat_{split}.txt").rename(main / f"helmet_{split}.txt")
    assert read_voc_lists(devkit, "trainval").classes == ["dog", "helmet", "person"]


def test_uncounted_images_are_0(own_names):
    main = own_names / "VOC2007" / "ImageSets" / "Main"
    lines = (main / "mycat_test.txt").read_text().splitlines()
    (main / "mycat_test.txt").write_text("\n".join([lines[0].replace(" 1", "0"), *lines[2:]]))
    labels = read_voc_lists(own_names, "test").labels
    assert labels[:2, 0].tolist() == [0, 0]
    assert (labels[2:, 0] != 0).all()
    assert (labels[:, 1:] != 0).all()


def test_images_outside_of_the_folder(own_names):
    main = own_names / "VOC2007" / "ImageSets" / "Main"
    with (main / "mycat_test.txt").open("a") as file:
        file.write("../../secret 1\n")
    with pytest.raises(InputError, match=r"mycat_test.txt:\d+: '../../secret' leads out of the folder of the images"):
        read_voc_lists(own_names, "test")


@pytest.mark.parametrize("variant", ["standard", "pool_2x2", ["eleven_point", "wide_costs"]])
def test_perfect_features(own_names, tmp_path, variant):
    results = evaluate_voc07(Colours(), CPU, tmp_path, own_names, variant, 32, 32, workers=0, processes=1)
    assert list(results) == ["mAP", "AP/mycat", "AP/mydog", "AP/myperson"]
    assert results["mAP"] == pytest.approx(100)
    with (tmp_path / "voc07.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["mycat", "mydog", "myperson"]
    assert {row["images"] for row in rows} == {"24"}
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_constant_features(own_names, tmp_path):
    constant = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1)).requires_grad_(False)
    constant[1].weight.zero_()
    results = evaluate_voc07(constant, CPU, tmp_path, own_names, size=32, workers=0, processes=1)
    fraction = (read_voc_lists(own_names, "test").labels > 0).mean(0)
    np.testing.assert_allclose([results[f"AP/{name}"] for name in ("mycat", "mydog", "myperson")], 100 * fraction)


def spoil(devkit, what):
    main = devkit / "VOC2007" / "ImageSets" / "Main"
    if what == "layout":
        main.rename(main.with_name("Others"))
    elif what == "split":
        for file in main.glob("*_test.txt"):
            file.unlink()
    elif what == "line":
        (main / "mydog_test.txt").write_text("test000 1\ntest001 yes\n")
    elif what == "image":
        (devkit / "VOC2007" / "JPEGImages" / "test005.jpg").unlink()
    elif what == "positives":
        text = (main / "mydog_test.txt").read_text()
        (main / "mydog_test.txt").write_text(text.replace("  1", " -1"))
    elif what == "bytes":
        (devkit / "VOC2007" / "JPEGImages" / "test005.jpg").write_bytes(b"\xff\xd8 no more")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("layout", "is not laid out as VOCdevkit"),
        ("split", "lacks mycat_test.txt; the test images"),
        ("line", r"mydog_test\.txt:2: 'test001 yes' is not an image's name and -1, 0 or 1"),
        ("image", r"test005\.jpg: no such file, but ImageSets/Main lists it for test"),
        ("positives", "class mydog has 0 positives"),
        ("bytes", r"test005\.jpg: the JPEG is cut short"),
    ],
)
def test_broken_layout(own_names, tmp_path, what, message):
    spoil(own_names, what)
    with pytest.raises(InputError, match=message) as caught:
        evaluate_voc07(Colours(), CPU, tmp_path, own_names, size=32, workers=0, processes=1)
    assert "\n" not in str(caught.value)


def test_missing_voc_list(devkit):
    with pytest.raises(InputError, match=r"lacks aeroplane_trainval\.txt"):
        read_voc_lists(devkit, "trainval")
    assert len(VOC_CLASSES) == 20


def test_unknown_variant(own_names, tmp_path):
    with pytest.raises(InputError, match="did you mean 'eleven_point'"):
        evaluate_voc07(Colours(), CPU, tmp_path, own_names, "11_point")


def test_variant_of_wrong_type(own_names, tmp_path):
    with pytest.raises(InputError, match=r"protocol\.variant must be one of standard, .*; got 3"):
        evaluate_voc07(Colours(), CPU, tmp_path, own_names, 3)
