"""Walking a tree of folders: links, thumbnails, trash and runs; names that read alike; names of any bytes."""

import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from castlit.data import FileSource
from castlit.data.io.coco_annotations import AnnotationMasks
from castlit.data.io.folders import find_file, match_key, walk
from castlit.evaluation.backgrounds import make_backgrounds
from castlit.evaluation.frozen import class_names, read_class_folders

NFC, NFD = (unicodedata.normalize(form, "é/Übung 가") for form in ("NFC", "NFD"))


def photograph(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(path)


def mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.zeros((30, 40), np.uint8)
    levels[:10] = 255
    Image.fromarray(levels).save(path)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


SKIPPED = ("@eaDir", "#recycle", "__MACOSX", "$RECYCLE.BIN", ".thumbnails", ".git", "lost+found", "@Recently-Snapshot")


@pytest.mark.parametrize("name", SKIPPED)
def test_skipped_folders(tmp_path, name):
    touch(
        tmp_path / "a" / "1.jpg", tmp_path / "a" / name / "1.jpg" / "SYNOPHOTO_THUMB_M.jpg", tmp_path / name / "2.jpg"
    )
    assert [(folder.path, folder.files) for folder in walk(tmp_path)] == [("", []), ("a", ["1.jpg"])]
    touch(tmp_path / "b" / "1.jpg")
    assert class_names(tmp_path) == ["a", "b"]
    assert len(read_class_folders(tmp_path, "data.root")[0]) == 2
    # The user's own choice.
    assert [folder.files for folder in walk(tmp_path / name)] == [["2.jpg"]]


def test_runs_are_no_images(tmp_path):
    """castlit, started in the folder of photographs, writes pictures and masks below it."""
    run = tmp_path / "outputs" / "2026-01-01" / "12-00-00"
    touch(
        tmp_path / "1.jpg", run / "gradcam.png", run / ".hydra" / "config.yaml", run / "self_masks" / "train" / "1.png"
    )
    assert [folder.path for folder in walk(tmp_path)] == ["", "outputs", "outputs/2026-01-01"]
    assert [folder.path for folder in walk(run)] == ["", "self_masks", "self_masks/train"]


@pytest.mark.parametrize("link", ["a", "zz", "a/b", "photos/again"])
def test_real_folders_before_links(tmp_path, link):
    """A folder is visited under its own name, wherever a link to it is."""
    images = tmp_path / "images"
    photograph(images / "photos" / "1.jpg")
    mask(tmp_path / "masks" / "photos" / "1.png")
    (images / link).parent.mkdir(exist_ok=True)
    (images / link).symlink_to(images / "photos")
    source = FileSource(images, tmp_path / "masks")
    assert [source.entry(i).image for i in range(len(source))] == ["photos/1.jpg"]


def test_links_to_other_places(tmp_path):
    photograph(tmp_path / "disk" / "x" / "1.jpg")
    (tmp_path / "disk" / "up").symlink_to(tmp_path / "disk")
    for top in ("images", "masks"):
        (tmp_path / top).mkdir()
    (tmp_path / "images" / "two").symlink_to(tmp_path / "disk" / "x")
    (tmp_path / "images" / "one").symlink_to(tmp_path / "disk")
    found = {folder.path: folder.files for folder in walk(tmp_path / "images")}
    assert [path for path, files in found.items() if files] == ["one/x"]
    mask(tmp_path / "masks" / "one" / "x" / "1.png")
    assert len(FileSource(tmp_path / "images", tmp_path / "masks")) == 1


@pytest.mark.parametrize(("image", "other"), [(NFC, NFD), (NFD, NFC), (NFC, NFC)])
class TestNamesThatReadAlike:
    def test_masks(self, tmp_path, image, other):
        photograph(tmp_path / "images" / f"{image}.jpg")
        mask(tmp_path / "masks" / f"{other}.png")
        source = FileSource(tmp_path / "images", tmp_path / "masks", cache=tmp_path / "cache")
        assert source.entry(0).mask == f"{other}.png"
        assert source.read(0).mask.sum() == 400
        assert source.mask_path(0).is_file()

    def test_annotations(self, tmp_path, image, other):
        listed = {"id": 1, "file_name": f"{other}.jpg", "height": 30, "width": 40}
        content = {"images": [listed], "annotations": [{"image_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9]]}]}
        (tmp_path / "i.json").write_text(json.dumps(content))
        masks = AnnotationMasks(tmp_path / "i.json")
        for name in (f"{image}.jpg", os.fsdecode(f"{image}.jpg".encode())):
            assert masks.mask(name).any()

    def test_files(self, tmp_path, image, other):
        touch(tmp_path / f"{other}.png")
        assert find_file(tmp_path, f"{image}.png") == tmp_path / f"{other}.png"
        assert find_file(tmp_path, f"{image}.jpg") is None
        assert find_file(tmp_path, f"x{image}.png") is None
        assert find_file(tmp_path / "nowhere", f"{image}.png") is None

    def test_backgrounds(self, tmp_path, image, other):
        for name in ("a", "b"):
            for i in range(3):
                photograph(tmp_path / "own" / "images" / name / f"{image} {i}.jpg")
                mask(tmp_path / "own" / "masks" / name / f"{other} {i}.png")
        made = make_backgrounds(tmp_path / "own", tmp_path / "made", 16, workers=0)
        assert len(list((made / "only_fg").rglob("*.png"))) == 4


def test_match_key():
    assert match_key(NFC) == match_key(NFD) != NFD
    # Bytes that are not UTF-8, as Python decodes them, and UTF-8 as Python decodes it where the system has ASCII.
    assert match_key("\udcff.jpg") == "\udcff.jpg"
    assert match_key(NFD.encode().decode("ascii", "surrogateescape")) == match_key(NFC)
    assert match_key("\ud83d") == "\ud83d"  # half of an emoji, which JSON may hold
