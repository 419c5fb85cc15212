"""Masks in the images' folder: beside their photographs they are paired; elsewhere they are refused, or noticed."""

import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from castlit.data import FileSource, SaliencyDataModule
from castlit.data.io.data_report import DataReport
from castlit.saliency.pipeline.folder import make_masks
from castlit.utils.validation import InputError

SIZE = (32, 40)


def photograph(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8), (0, 0), 2)
    pixels[8:20, 10:25] = (230, 40, 30)
    Image.fromarray(pixels).save(path)


def mask(path, soft=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.zeros(SIZE, np.uint8)
    levels[8:20, 10:25] = 255
    levels = cv2.GaussianBlur(levels, (0, 0), 3) if soft else levels
    np.save(path, levels / 255) if path.suffix == ".npy" else Image.fromarray(levels).save(path)


def grey(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, SIZE).astype(np.uint8)
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)).save(path)


@pytest.fixture
def beside(tmp_path):
    """MSRA-B's layout: jpg and png in one folder; here also deeper, and with .npy and .webp."""
    for i, (photo, its_mask) in enumerate(
        [("a.jpg", "a.png"), ("b.JPG", "b.npy"), ("x/a.jpeg", "x/a.PNG"), ("x/c.webp", "x/c.png")]
    ):
        photograph(tmp_path / "all" / photo, i)
        mask(tmp_path / "all" / its_mask)
    return tmp_path / "all"


def test_masks_beside_photographs(beside, tmp_path, caplog):
    source = FileSource(beside, beside, cache=tmp_path / "cache")
    names = [(source.entry(i).image, source.entry(i).mask) for i in range(len(source))]
    assert names == [("a.jpg", "a.png"), ("b.JPG", "b.npy"), ("x/a.jpeg", "x/a.PNG"), ("x/c.webp", "x/c.png")]
    for i in range(4):
        assert source.read(i).mask.sum() == 12 * 15
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    data = SaliencyDataModule(
        beside, beside / ".." / "all", val_images=beside, val_masks=beside, size=16, batch_size=4, workers=0
    )
    assert next(iter(data.train_dataloader()))["query_mask"].flatten(1).any(1).all()
    assert len(data.sources[1]) == 4


def test_masks_beside_photographs_with_problems(beside, tmp_path, caplog):
    photograph(beside / "alone.jpg")
    photograph(beside / "twin.jpg")
    photograph(beside / "twin.bmp")
    mask(beside / "twin.png")
    photograph(beside / "colour.jpg")
    photograph(beside / "colour.png")
    mask(beside / "orphan.png")
    report = DataReport(tmp_path / "data_report.csv")
    kinds = r"1 mask missing: alone.jpg; 2 mask shared .*: twin.bmp, twin.jpg; 1 mask is a label map: colour.jpg"
    with pytest.raises(InputError, match=rf"4 of 8 .*\({kinds}\)"):
        FileSource(beside, beside, report=report)
    assert "1 files are taken for masks without a photograph, and not used (first: orphan.png)" in caplog.text
    assert "train,,orphan.png,mask without an image,,ignored" in report.path.read_text()
    assert len(FileSource(beside, beside, on_bad="drop")) == 4


def refused(message, *folders, **options):
    """Both when the index is built ahead and when the data are opened."""
    images, masks, *val = folders
    options |= dict(zip(("val_images", "val_masks"), val, strict=False))

    def prepare_and_setup(data):
        data.prepare_data()
        data.setup()

    for steps in (SaliencyDataModule.setup, prepare_and_setup):
        data = SaliencyDataModule(images, masks, size=16, batch_size=2, workers=0, **options)
        with pytest.raises(InputError, match=message) as caught:
            steps(data)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("on_bad", ["error", "drop", "unconstrained"])
@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("all", "all/masks", r"masks=.*all/masks and images=.*all are the same folder or one inside the other"),
        ("all/photos", "all", r"masks=.*all and images=.*all/photos are the same folder or one inside the other"),
        ("all", "all/masks/..", r"the same folder, where photographs \(.jpg, .* it has no such pair: give the masks a"),
        ("all/photos", "all/photos", r"the same folder, where photographs .* it has no such pair"),
        ("all/masks", "all/masks", r"the same folder, where photographs .* it has no such pair"),
        ("linked", "all/masks", r"masks=.*all/masks are also in images=.*linked, by the link m, and would be read as"),
    ],
)
def test_nested_folders_are_refused(tmp_path, images, masks, message, on_bad):
    for i in range(3):
        photograph(tmp_path / "all" / "photos" / f"{i}.jpg", i)
        photograph(tmp_path / "linked" / f"{i}.jpg", i)
        mask(tmp_path / "all" / "masks" / f"{i}.png")
    (tmp_path / "linked" / "m").symlink_to(tmp_path / "all" / "masks")
    refused(message, tmp_path / images, tmp_path / masks, on_bad=on_bad, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "val/m", "val", "masks"), r"^masks=.*val/m and val_images=.*val are the same folder or one inside"),
        (
            ("train", "masks", "val", "train/m"),
            r"^val_masks=.*train/m and images=.*train are the same folder or one in",
        ),
        (("train", "val", "val", None), r"^masks=.*val and val_images=.*val are the same folder or one inside"),
    ],
)
def test_masks_among_the_other_splits_images(tmp_path, folders, message):
    for i in range(3):
        for name in ("train", "val"):
            photograph(tmp_path / name / f"{i}.jpg", i)
        for name in ("masks", "train/m", "val/m"):
            mask(tmp_path / name / f"{i}.png")
    refused(message, *(name and tmp_path / name for name in folders), cache=tmp_path / "cache")


def photos_and(place, kind):
    """Four photographs in two folders, and their masks where ``place`` says."""

    def make(folder):
        for i, name in enumerate(("x/a", "x/b", "y/a", "y/c")):
            photograph(folder / f"{name}.jpg", i)
            target = folder / place.format(name)
            if kind == "made":
                continue
            mask(target, soft=kind == "soft")
        if kind == "made":
            make_masks(folder, folder.parent / "made", workers=0, preview=0)
            (folder.parent / "made").rename(folder / "made")

    return make


def all_masks(folder):
    for i in range(4):
        mask(folder / f"{i}.png")


def radiographs(folder):
    for i in range(8):
        grey(folder / "ab"[i % 2] / f"{i // 2}.png", i)


def grey_and_colour(folder):
    """Classes with photographs of the same names, some grey, which are no masks: more names differ than agree."""
    for i in range(6):
        photograph(folder / "now" / f"{i}.png", i)
        grey(folder / "then" / f"{i + 4}.png", i)


def ultrasound(folder):
    """Grey photographs and their masks, all PNGs of one folder; one has two masks."""
    for i, name in enumerate(("x/a", "x/b", "y/a", "y/c")):
        grey(folder / f"{name} (1).png", i)
        mask(folder / f"{name} (1)_mask.png")
    mask(folder / "x" / "a (1)_mask_1.png")
    return {f"{name} (1).png" for name in ("x/a", "x/b", "y/a", "y/c")}


def radiographs_and_masks(folder):
    for i in range(4):
        grey(folder / "images" / f"{i}.png", i)
        mask(folder / "masks" / f"{i}.png")
    return {f"images/{i}.png" for i in range(4)}


def named_photographs(folder):
    """Photographs whose names have such words: of gas masks, some in black and white."""
    for i in range(4):
        photograph(folder / f"mask_{i}.png", i)
        grey(folder / f"gas_mask_{i}.png", i)


def one_grey(folder):
    for i in range(4):
        photograph(folder / "a" / f"{i}.jpg", i)
    grey(folder / "b" / "0.png")


# Images for which no masks are given, and how many look like masks.
STRAYS = {
    "beside": (photos_and("{}.png", "black and white"), 4),
    "beside, soft": (photos_and("{}.png", "soft"), 4),
    "in a folder": (photos_and("masks/{}.png", "black and white"), 4),
    "in a folder, soft": (photos_and("masks/{}.png", "soft"), 4),
    "in a folder, JPEGs": (photos_and("masks/{}.jpg", "black and white"), 4),
    "with other names": (photos_and("masks/{}_mask.png", "black and white"), 4),
    "of make_masks": (photos_and("", "made"), 4),
    "named as masks": (photos_and("{}_mask.jpg", "black and white"), 4),
    "named as masks, soft": (photos_and("{}-gt.jpg", "soft"), 4),
    "ultrasound": (ultrasound, 5),
    "radiographs and masks": (radiographs_and_masks, 4),
    "nothing but masks": (all_masks, 0),
    "photographs of masks": (named_photographs, 0),
    "radiographs": (radiographs, 0),
    "grey and colour": (grey_and_colour, 0),
    "one grey photograph": (one_grey, 0),
}


@pytest.mark.parametrize("name", STRAYS)
def test_masks_among_images_without_masks(tmp_path, name):
    make, count = STRAYS[name]
    images = tmp_path / "images"
    photographs = make(images) or {"x/a.jpg", "x/b.jpg", "y/a.jpg", "y/c.jpg"}
    total = len([path for path in images.rglob("*") if path.suffix in (".jpg", ".png")])
    if not count:
        assert len(FileSource(images)) == total
        return
    message = (
        rf"{count} of {total} images .*\({count} image looks like a mask: .* give the folder of the photographs alone"
    )
    with pytest.raises(InputError, match=message):
        FileSource(images)
    source = FileSource(images, on_bad="drop", cache=tmp_path / "cache")
    assert {source.entry(i).image for i in range(len(source))} == photographs
    source = FileSource(images, on_bad="unconstrained", cache=tmp_path / "cache")
    assert len(source) == total
    assert all(source.read(i).mask is None for i in range(total))
