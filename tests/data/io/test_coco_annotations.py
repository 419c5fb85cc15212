"""COCO's annotations as masks, compared with pycocotools."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from castlit.data import CocoDataModule, FileSource
from castlit.data.io.coco_annotations import AnnotationMasks
from castlit.data.io.data_report import DataReport
from castlit.data.io.errors import SampleError
from castlit.utils.validation import InputError

# raised by pycocotools with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 30, 40


def polygon(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def runs(mask):
    """Uncompressed run lengths, in column order."""
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], edges])).tolist()


def box_mask():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 20:31] = 1
    return mask


def content(segments, file_name="a.jpg"):
    image = {"id": 7, "file_name": file_name, "height": HEIGHT, "width": WIDTH}
    annotations = [{"id": i, "image_id": 7, "segmentation": segment} for i, segment in enumerate(segments)]
    return {"images": [image], "annotations": annotations, "categories": []}


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def expected(segments):
    union = np.zeros((HEIGHT, WIDTH), np.uint8)
    for segment in segments:
        encoded = reference.frPyObjects(segment, HEIGHT, WIDTH) if "counts" not in segment else segment
        if isinstance(encoded, dict) and isinstance(encoded["counts"], list):
            encoded = reference.frPyObjects(encoded, HEIGHT, WIDTH)
        decoded = reference.decode(encoded)
        union |= decoded if decoded.ndim == 2 else decoded.max(2)
    return union


COMPRESSED = reference.encode(np.asfortranarray(box_mask()))

SEGMENTS = {
    "one polygon": [[polygon(2, 3, 10)]],
    "two polygons of one object": [[polygon(2, 3, 5), polygon(20, 20, 8)]],
    "two objects that overlap": [[polygon(2, 3, 10)], [polygon(5, 6.5, 12)]],
    "a crowd": [{"size": [HEIGHT, WIDTH], "counts": runs(box_mask())}],
    "compressed run lengths": [{"size": [HEIGHT, WIDTH], "counts": COMPRESSED["counts"].decode()}],
    "everything": [[polygon(1, 20, 6)], {"size": [HEIGHT, WIDTH], "counts": runs(box_mask())}],
    "out of the image": [[polygon(30, 20, 50)]],
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_segmentations(tmp_path, name):
    masks = AnnotationMasks(write(tmp_path / "i.json", content(SEGMENTS[name])))
    mask = masks.mask("a.jpg")
    assert mask.dtype == np.uint8
    assert mask.any()
    assert np.array_equal(mask, expected(SEGMENTS[name]))


def test_lookup_by_path_or_name(tmp_path):
    masks = AnnotationMasks(write(tmp_path / "i.json", content([], "a.jpg")))
    assert np.array_equal(masks.mask("sub/a.jpg"), masks.mask("a.jpg"))
    assert masks.mask("a.jpg").sum() == 0
    assert masks.mask("b.jpg") is None


@pytest.mark.parametrize(
    "segment",
    [
        {"size": [HEIGHT, WIDTH], "counts": [3, 4]},
        {"size": [HEIGHT + 1, WIDTH], "counts": [HEIGHT * WIDTH]},
        {"counts": [HEIGHT * WIDTH]},
        "polygon",
        [["a", "b", "c", "d", "e", "f"]],
        [3, 4, 5],
        # Layouts of other programs, in which every part looked too short to enclose anything.
        [[5, 5], [20, 5], [20, 20]],
        [[[5, 5, 20, 5, 20, 20]]],
        [{"x": 5, "y": 5}, {"x": 20, "y": 5}, {"x": 20, "y": 20}],
        {"size": [HEIGHT, WIDTH], "counts": "0" * 100},
    ],
    ids=str,
)
def test_invalid_segmentations(tmp_path, segment):
    masks = AnnotationMasks(write(tmp_path / "i.json", content([[polygon(2, 3, 10)], segment])))
    with pytest.raises(SampleError, match=r"i.json: the segmentation of a.jpg is not COCO's") as caught:
        masks.mask("a.jpg")
    assert "\n" not in str(caught.value)


def test_polygons_of_two_points(tmp_path):
    masks = AnnotationMasks(write(tmp_path / "i.json", content([[[1, 2, 3, 4]]])))
    assert masks.mask("a.jpg").sum() == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "it needs the keys images and annotations"),
        ('{"images": []}', "it needs the keys images and annotations"),
        ('{"images": [{"id": 1}], "annotations": []}', "every image needs file_name"),
        ('{"images": [], "annotations": [{"image_id": 1}]}', "every image needs file_name"),
        ('{"images": 3, "annotations": []}', "every image needs file_name"),
    ],
)
def test_invalid_files(tmp_path, value, message):
    with pytest.raises(InputError, match=rf"i.json: .*{message}") as caught:
        AnnotationMasks(write(tmp_path / "i.json", value))
    assert "\n" not in str(caught.value)


def listed(*names, **changes):
    return [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH, **changes} for i, name in enumerate(names)]


def squares(count):
    """Image i has a square at x = i."""
    return [{"image_id": i, "segmentation": [polygon(i, 3, 10)]} for i in range(count)]


def found(tmp_path, photographs, images, annotations):
    """The mask of each photograph, as the number of its square; or why it is missing."""
    masks = AnnotationMasks(write(tmp_path / "i.json", {"images": images, "annotations": annotations}))
    masks.assign(photographs)
    result = {}
    for name in photographs:
        mask = masks.mask(name)
        result[name] = masks.missing(name).removeprefix(f"{masks.path} ") if mask is None else mask.any(0).argmax()
        assert (mask is None) == bool(masks.missing(name))
    return result


TWO = "lists 1.jpg, which may be any of 2 images"

NAMES = {
    "paths": (["a/1.jpg", "b/1.jpg"], listed("b/1.jpg", "a/1.jpg"), [1, 0]),
    "last parts": (["a/1.jpg", "a/2.jpg"], listed("1.jpg", "2.jpg"), [0, 1]),
    "one last part of two": (["a/1.jpg", "b/1.jpg"], listed("1.jpg"), [TWO, TWO]),
    "a path and a last part": (["1.jpg", "b/1.jpg"], listed("1.jpg"), [0, TWO]),
    "a path beside a last part": (["a/1.jpg", "b/1.jpg"], listed("b/1.jpg", "1.jpg"), [1, 0]),
    "another folder": (["1.jpg", "a/1.jpg"], listed("b/1.jpg"), ["does not list it"] * 2),
    "listed twice": (["1.jpg", "2.jpg"], listed("1.jpg", "1.jpg", "2.jpg"), ["lists it twice, with different ids", 2]),
    "listed twice alike": (["1.jpg"], listed("1.jpg") * 2, [0]),
    "one id for two": (["1.jpg", "2.jpg"], listed("1.jpg", "2.jpg", id=0), ["gives its id, 0, to two images"] * 2),
}


@pytest.mark.parametrize("name", NAMES)
def test_ambiguous_names_are_missing(tmp_path, name):
    photographs, images, expected = NAMES[name]
    assert list(found(tmp_path, photographs, images, squares(3)).values()) == expected


def test_ambiguous_names_in_the_index(tmp_path):
    """One mask for two photographs of the same name in two folders: neither gets it, whatever their order."""
    for folder in ("a", "b"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photos" / folder / "1.jpg")
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photos" / folder / f"{folder}.jpg")
    content = {"images": listed("1.jpg", "a.jpg"), "annotations": squares(2)}
    masks = write(tmp_path / "i.json", content)
    report = DataReport(tmp_path / "data_report.csv")
    source = FileSource(tmp_path / "photos", masks, on_bad="unconstrained", report=report)
    assert [source.read(i).mask is not None for i in range(4)] == [False, True, False, False]
    assert report.path.read_text().count(TWO) == 2
    with pytest.raises(InputError, match=r"3 mask missing: a/1.jpg, b/1.jpg, b/b.jpg"):
        FileSource(tmp_path / "photos", masks)


GOOD = {"image_id": 0, "segmentation": [polygon(5, 3, 10)]}

# What stands beside a good annotation, and how many annotations and images are skipped with a warning.
BESIDE = {
    "no segmentation": ([{"image_id": 0}], [], "1 of 2 annotations"),
    "null": ([{"image_id": 0, "segmentation": None}], [], "1 of 2 annotations"),
    "no image": ([{"segmentation": [polygon(20, 3, 5)]}], [], "1 of 2 annotations"),
    "no dictionary": ([None, 7], [], "2 of 3 annotations"),
    "a list as id": ([{"image_id": [0], "segmentation": [polygon(20, 3, 5)]}], [], "1 of 2 annotations"),
    "of another image": ([{"image_id": 1}], [], "1 of 2 annotations"),
    "no polygon": ([{"image_id": 0, "segmentation": []}], [], ""),
    "a null among polygons": ([{"image_id": 0, "segmentation": [None, polygon(5, 3, 10)]}], [], ""),
    "an image without name": ([], [{"id": 3}], "1 of 2 images"),
    "an image without id": ([], [{"file_name": "b.jpg"}], "1 of 2 images"),
    "an image without size": ([], [{"id": 3, "file_name": "b.jpg"}], ""),
}


@pytest.mark.parametrize("name", BESIDE)
def test_one_bad_annotation(tmp_path, name, caplog):
    """It neither refuses the file nor takes the other annotations along."""
    annotations, images, skipped = BESIDE[name]
    content = {"images": [*listed("a.jpg"), *images], "annotations": [*annotations, GOOD]}
    masks = AnnotationMasks(write(tmp_path / "i.json", content))
    assert np.array_equal(masks.mask("a.jpg"), expected([[polygon(5, 3, 10)]]))
    assert len(caplog.records) == bool(skipped)
    assert f"i.json: {skipped}" in caplog.text or not skipped


FAR = (1e4, 1e7, 1e9, 1e30, -1e9, float("nan"), float("inf"), -float("inf"))


@pytest.mark.parametrize("value", FAR)
@pytest.mark.parametrize("at", [0, 3])
def test_coordinates_far_away(tmp_path, value, at):
    """They would take seconds, or for ever."""
    points = polygon(2, 3, 10)
    points[at] = value
    masks = AnnotationMasks(
        write(
            tmp_path / "i.json", {"images": listed("a.jpg"), "annotations": [GOOD, {**GOOD, "segmentation": [points]}]}
        )
    )
    with pytest.raises(
        SampleError,
        match=r"i.json: the segmentation of a.jpg is not COCO's .*a coordinate of .* in an image of 40 x 30",
    ):
        masks.mask("a.jpg")


@pytest.mark.parametrize(
    "size",
    [
        {"height": 10**9, "width": 10**9},
        {"height": 1, "width": 2**30},
        {"height": 0},
        {"width": -3},
        {"height": "tall"},
        {"width": None},
        {"height": float("nan")},
        {"width": float("inf")},
    ],
)
def test_impossible_sizes(tmp_path, size):
    masks = AnnotationMasks(write(tmp_path / "i.json", {"images": listed("a.jpg", **size), "annotations": [GOOD]}))
    with pytest.raises(SampleError, match=r"i.json: the segmentation of a.jpg is not COCO"):
        masks.mask("a.jpg")


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for split in ("train2017", "val2017"):
            (tmp_path / split).mkdir()
            for name in ("a", "b", "c"):
                picture = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
                picture.save(tmp_path / split / f"{name}.jpg")
            value = content([[polygon(2, 3, 10)]])
            value["images"].append({"id": 8, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH})
            (tmp_path / "annotations").mkdir(exist_ok=True)
            write(tmp_path / "annotations" / f"instances_{split}.json", value)
        return tmp_path

    def test_source(self, folder, caplog):
        masks = folder / "annotations" / "instances_train2017.json"
        source = FileSource(folder / "train2017", masks, on_bad="unconstrained", cache=folder / "cache")
        assert [source.read(i).mask is None for i in range(3)] == [False, True, True]
        assert np.array_equal(source.read(0).mask, expected([[polygon(2, 3, 10)]]))
        assert source.mask_path(0) is None
        assert "1 mask missing: c.jpg; 1 mask empty: b.jpg" in caplog.text
        again = FileSource(folder / "train2017", masks, on_bad="drop", cache=folder / "cache")
        assert len(again) == 1
        assert np.array_equal(again.read(0).mask, source.read(0).mask)

    @pytest.mark.parametrize("where", ["relative", "absolute"])
    def test_coco(self, folder, where):
        name = "annotations/instances_train2017.json"
        masks = folder / name if where == "absolute" else name
        data = CocoDataModule(folder, masks, on_bad="unconstrained", size=16, batch_size=3, workers=0)
        batch = next(iter(data.train_dataloader()))
        assert batch["query_mask"].flatten(1).bool().any(1).sum() == 1
        assert next(iter(data.val_dataloader()))["mask"].any()

    def test_coco_needs_both_files(self, folder):
        (folder / "annotations" / "instances_val2017.json").unlink()
        for name in ("train", "val"):
            with pytest.raises(FileNotFoundError, match=r"masks=.*instances_"):
                CocoDataModule(folder, f"annotations/instances_{name}2017.json")


def test_real_annotations(mini):
    masks = AnnotationMasks(mini / "annotations" / "instances_val2017.json")
    source = FileSource(mini / "val2017", mini / "masks" / "val2017")
    agree = []
    for i in range(len(source)):
        ours = masks.mask(source.entry(i).image)
        theirs = source.read(i).mask
        agree.append((ours & theirs).sum() / max(1, (ours | theirs).sum()))
    assert np.median(agree) > 0.99
