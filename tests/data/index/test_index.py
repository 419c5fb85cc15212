"""The index: built once, reused, and rebuilt when files change."""

import csv
import json
import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from castlit.data import FileSource, SaliencyDataModule
from castlit.data.index import file_source
from castlit.data.index.build import build_index
from castlit.data.index.cache import open_index
from castlit.data.index.image_index import ImageIndex, Problem
from castlit.data.index.packed_mask import pack_mask, unpack_mask
from castlit.data.io.data_report import DataReport
from castlit.data.io.errors import SampleError
from castlit.utils.bytes_array import BytesArray
from castlit.utils.validation import InputError


def write(path, size=(30, 40), salient=0.25, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[: round(size[0] * salient)] = 255
    Image.fromarray(pixels if "images" in path.parts else mask).save(path, **options)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b", "x/c"):
        write(tmp_path / "images" / f"{name}.jpg")
        write(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def opened(folders, **options):
    return FileSource(folders / "images", folders / "masks", **{"cache": folders / "cache", **options})


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


def test_entries(folders):
    write(folders / "images" / "x" / "c.jpg", (80, 60), exif=exif(6))
    index = build_index(folders / "images", folders / "masks", 0.5)
    entry = index[2]
    assert (entry.image, entry.mask, entry.size, entry.problem) == ("x/c.jpg", "x/c.png", (60, 80), Problem.NONE)
    assert index[0].area == pytest.approx(8 / 30)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_index_is_reused(folders):
    opened(folders)
    before = files_of(folders / "cache")
    assert before
    source = opened(folders)
    assert files_of(folders / "cache") == before
    assert [source.image_path(i).name for i in range(3)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert source.read(2).mask.mean() == pytest.approx(8 / 30)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: write(f / "images" / "new.jpg") or write(f / "masks" / "new.png"),
        lambda f: (f / "images" / "b.jpg").unlink(),
        lambda f: (f / "masks" / "x" / "c.png").rename(f / "masks" / "x" / "d.png"),
        lambda f: write(f / "images" / "y" / "deep" / "e.jpg") or write(f / "masks" / "y" / "deep" / "e.png"),
    ],
    ids=["added", "removed", "renamed mask", "new folder"],
)
def test_rebuilt_when_files_change(folders, change):
    opened(folders, on_bad="drop")
    before = files_of(folders / "cache")
    change(folders)
    changed = opened(folders, on_bad="drop")
    assert files_of(folders / "cache") != before
    fresh = FileSource(folders / "images", folders / "masks", on_bad="drop")
    assert [changed.entry(i) for i in range(len(changed))] == [fresh.entry(i) for i in range(len(fresh))]


def test_rebuilt_after_file_repair(folders):
    good = (folders / "images" / "b.jpg").read_bytes()
    with (folders / "images" / "b.jpg").open("r+b") as file:
        file.truncate(100)
    folder_time = (folders / "images").stat().st_mtime_ns
    assert len(opened(folders, on_bad="drop")) == 2
    with (folders / "images" / "b.jpg").open("r+b") as file:
        file.write(good)
    assert (folders / "images").stat().st_mtime_ns == folder_time
    assert len(opened(folders)) == 3


def test_masks_are_read_from_the_index(folders):
    source = opened(folders)
    read = []
    original = file_source.decode_mask
    file_source.decode_mask = lambda *arguments: read.append(arguments[1]) or original(*arguments)
    try:
        before = source.read(0).mask
        assert read == []
        write(folders / "masks" / "a.png", salient=0.5)
        assert source.read(0).mask.mean() == pytest.approx(0.5)
        assert len(read) == 1
    finally:
        file_source.decode_mask = original
    assert before.mean() == pytest.approx(8 / 30)
    assert len(opened(folders)) == 3


def test_indexed_mask_of_a_changed_image(folders):
    source = opened(folders)
    write(folders / "images" / "a.jpg", (60, 80))
    item = source.read(0)
    assert item.mask.shape == (60, 80)
    assert item.mask.mean() == pytest.approx(8 / 30)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)))
def test_packed_masks(mask):
    assert np.array_equal(unpack_mask(pack_mask(mask), mask.shape), mask)
    with pytest.raises(SampleError, match="damaged"):
        unpack_mask(pack_mask(mask)[:-3], mask.shape)
    with pytest.raises(SampleError, match="damaged"):
        unpack_mask(pack_mask(mask), (mask.shape[0] + 8, mask.shape[1]))


def test_index_depends_on_the_threshold(folders):
    Image.fromarray(np.full((30, 40), 100, np.uint8)).save(folders / "masks" / "a.png")
    assert len(opened(folders, on_bad="drop")) == 2
    assert len(opened(folders, threshold=0.3)) == 3
    assert len(opened(folders, on_bad="drop")) == 2


def label_map(path):
    """The upper half is class 13, with a border of "no label" as in PASCAL VOC."""
    numbers = np.zeros((30, 40), np.uint8)
    numbers[:15], numbers[15:17] = 13, 255
    Image.fromarray(numbers).save(path)


def test_index_depends_on_the_kind_of_masks(folders):
    label_map(folders / "masks" / "a.png")
    with pytest.raises(
        InputError, match=r"\(1 mask is a label map: a.jpg\); .* \(mask_kind=labels, colours or levels\)"
    ):
        opened(folders)
    report = DataReport(folders / "data_report.csv")
    source = opened(folders, on_bad="unconstrained", report=report)
    assert source.read(0).mask is None
    (row,) = csv.DictReader(report.path.read_text().splitlines())
    assert (row["image"], row["problem"]) == ("a.jpg", "mask is a label map")
    assert "levels 0, 13, 255 are neither black and white nor soft" in row["detail"]
    top = np.repeat([1, 0], 15)[:, None]
    for _ in range(2):  # built, and opened again
        source = opened(folders, mask_kind="labels", on_bad="unconstrained")
        assert (source.read(0).mask == top).all()
        assert source.read(1).mask is None  # black and white: 255 is no label
        assert opened(folders, mask_kind="levels").read(0).mask.sum() == 2 * 40
    # A file that becomes a label map after it was indexed.
    source = opened(folders, mask_kind="levels")
    label_map(folders / "masks" / "b.png")
    assert source.read(1).mask.sum() == 2 * 40
    with pytest.raises(InputError, match="mask_kind must be one of auto, levels, labels, colours"):
        opened(folders, mask_kind="label")


@pytest.mark.parametrize("damage", ["cut", "no json", "other format", "missing"])
def test_damaged_cache_is_rebuilt(folders, damage):
    opened(folders)
    (cache,) = (folders / "cache").iterdir()
    if damage == "cut":
        with (cache / "sizes.npy").open("r+b") as file:
            file.truncate(40)
    elif damage == "no json":
        (cache / "index.json").write_text("{")
    elif damage == "other format":
        (cache / "index.json").write_text(json.dumps({**json.loads((cache / "index.json").read_text()), "format": 0}))
    else:
        (cache / "images.npy").unlink()
    assert opened(folders).read(0).image.shape == (30, 40, 3)


def test_unwritable_cache(folders, caplog):
    (folders / "cache").write_text("in the way")
    assert len(opened(folders)) == 3
    assert "the index cannot be saved" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is a folder that nobody can write to on Linux")
def test_existing_cache_that_cannot_be_written(folders, caplog):
    assert len(opened(folders, cache="/sys")) == 3
    assert "the index cannot be saved" in caplog.text


def test_recursive_links(folders):
    (folders / "images" / "x" / "again").symlink_to(folders / "images")
    assert len(opened(folders)) == 3


def test_broken_links_and_pipes(folders):
    (folders / "images" / "link.jpg").symlink_to(folders / "nowhere")
    os.mkfifo(folders / "images" / "pipe.jpg")
    for name in ("link", "pipe"):
        write(folders / "masks" / f"{name}.png")
    with pytest.raises(InputError, match=r"2 image unreadable: link.jpg, pipe.jpg"):
        opened(folders)
    assert len(opened(folders, on_bad="drop")) == 3


def test_pickle(folders):
    for source in (opened(folders), FileSource(folders / "images", folders / "masks")):
        copy = pickle.loads(pickle.dumps(source))
        assert [copy.entry(i) for i in range(3)] == [source.entry(i) for i in range(3)]


def test_failed_save_leaves_no_files(folders, monkeypatch):
    index = build_index(folders / "images", folders / "masks", 0.5)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        index.save(folders / "kept")
    assert not list(folders.glob("kept*"))


def test_save_empty_index(tmp_path):
    (tmp_path / "none").mkdir()
    build_index(tmp_path / "none", None, 0.5).save(tmp_path / "kept")
    assert len(ImageIndex.open(tmp_path / "kept")) == 0
    assert ImageIndex.open(tmp_path / "nowhere") is None


def test_save_by_two_processes(folders):
    first, second = (build_index(folders / "images", folders / "masks", 0.5) for _ in range(2))
    first.save(folders / "kept")
    second.save(folders / "kept")
    assert len(ImageIndex.open(folders / "kept")) == 3
    assert [path.name for path in folders.glob("kept*")] == ["kept"]


class TestReport:
    @pytest.fixture
    def spoiled(self, folders):
        """One of each problem."""
        for name in ("empty", "missing", "broken", "shape", "cut", "twin"):
            write(folders / "images" / f"{name}.jpg")
            write(folders / "masks" / f"{name}.png")
        write(folders / "images" / "twin.png")
        write(folders / "masks" / "empty.png", salient=0)
        (folders / "masks" / "missing.png").unlink()
        (folders / "masks" / "broken.png").write_text("<html>")
        write(folders / "masks" / "shape.png", (60, 20))
        with (folders / "images" / "cut.jpg").open("r+b") as file:
            file.truncate(300)
        write(folders / "masks" / "orphan.png")
        return folders

    EXPECTED = (
        ("broken.jpg", "mask unreadable"),
        ("cut.jpg", "image unreadable"),
        ("empty.jpg", "mask empty"),
        ("missing.jpg", "mask missing"),
        ("shape.jpg", "mask mismatched"),
        ("twin.jpg", "mask shared by two images"),
        ("twin.png", "mask shared by two images"),
        ("", "mask without an image"),
    )

    def rows(self, folder):
        return list(csv.DictReader((folder / "data_report.csv").read_text().splitlines()))

    @pytest.mark.parametrize(("on_bad", "kept"), [("error", None), ("drop", 3), ("unconstrained", 9)])
    def test_every_problem_is_listed(self, spoiled, on_bad, kept, caplog):
        report = DataReport(spoiled / "data_report.csv")
        if on_bad == "error":
            with pytest.raises(InputError, match=r"7 of 10 images .* all are listed in .*data_report.csv; repair them"):
                opened(spoiled, on_bad=on_bad, report=report)
        else:
            assert len(opened(spoiled, on_bad=on_bad, report=report)) == kept
            assert "7 of 10 images" in caplog.text
        rows = self.rows(spoiled)
        assert [(row["image"], row["problem"]) for row in rows] == list(self.EXPECTED)
        handling = {"error": "stopped", "drop": "left out", "unconstrained": "used without a mask"}[on_bad]
        for row in rows[:-1]:
            lost = row["problem"] == "image unreadable" and on_bad == "unconstrained"
            assert row["handling"] == ("left out" if lost else handling)
        assert rows[-1]["mask"] == "orphan.png"
        assert "20 x 60" in rows[4]["detail"]

    def test_unconstrained_images_have_no_mask(self, spoiled):
        source = opened(spoiled, on_bad="unconstrained")
        without = {source.entry(i).image for i in range(len(source)) if source.read(i).mask is None}
        assert without == {"broken.jpg", "empty.jpg", "missing.jpg", "shape.jpg", "twin.jpg", "twin.png"}

    def test_no_usable_image(self, folders):
        for path in (folders / "images").rglob("*.jpg"):
            path.write_bytes(b"")
        for on_bad in ("drop", "unconstrained"):
            with pytest.raises(InputError, match="none of the 3 images can be used"):
                opened(folders, on_bad=on_bad)

    def test_names_with_special_characters(self, folders):
        name = 'com,ma "and"\nline\udcff.jpg'
        write(folders / "images" / "plain.jpg")
        (folders / "images" / "plain.jpg").rename(folders / "images" / name)
        report = DataReport(folders / "data_report.csv")
        opened(folders, on_bad="drop", report=report)
        with (folders / "data_report.csv").open(errors="surrogateescape", newline="") as file:
            assert [row["image"] for row in csv.DictReader(file)] == [name]

    def test_data_module_reports_both_splits(self, spoiled, tmp_path):
        import pytorch_lightning as pl

        data = SaliencyDataModule(
            spoiled / "images",
            spoiled / "masks",
            val_images=spoiled / "images",
            val_masks=spoiled / "masks",
            on_bad="drop",
            size=16,
            workers=0,
        )
        data.trainer = pl.Trainer(default_root_dir=tmp_path / "run", logger=False, accelerator="cpu")
        data.prepare_data()
        assert (
            len(list((tmp_path / "run" / "castlit_index").iterdir())) == 1
        )  # both splits have the same folders, indexed once
        data.setup()
        rows = self.rows(tmp_path / "run")
        assert [row["split"] for row in rows] == ["train"] * 8 + ["val"] * 8


def test_without_masks(folders):
    write(folders / "images" / "a.png")
    source = FileSource(folders / "images", cache=folders / "cache")
    assert len(source) == 4
    assert all(source.read(i).mask is None for i in range(4))
    assert source.mask_path(0) is None


def test_opening_does_not_read_images(folders):
    opened(folders)
    for path in (folders / "images" / "a.jpg", folders / "masks" / "a.png"):
        state = path.stat()
        path.write_bytes(b"x" * state.st_size)  # in place: reading the files would show that they are damaged
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert len(opened(folders)) == 3


def test_arrays_are_memory_mapped(folders):
    opened(folders)
    index = open_index(folders / "images", folders / "masks", 128 / 255, folders / "cache")
    assert isinstance(index.images, BytesArray)
    assert isinstance(index.images.data.base, np.memmap)
    assert isinstance(index.sizes.base, np.memmap)
