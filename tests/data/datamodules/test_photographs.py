import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from castlit.data import CocoDataModule, EvalDataset, FileSource, SaliencyDataModule, TwoViews, ViewDataset, collate
from castlit.data.io.bad_samples import BadSamples
from castlit.data.io.data_report import DataReport
from castlit.data.io.errors import SampleError
from castlit.utils.bytes_array import BytesArray, decode_path, decode_text, encode_path, encode_text
from castlit.utils.validation import InputError

MINI = Path(__file__).parents[4] / "shared" / "data" / "mini"


def write(path, seed=0, size=(30, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    is_mask = path.suffix == ".png" or "masks" in path.parts
    Image.fromarray((colour[..., 0] > 100).astype(np.uint8) * 255 if is_mask else colour).save(path)


@pytest.fixture
def folders(tmp_path):
    """Six images with masks: in the folder, and in subfolders."""
    for i, name in enumerate(["a", "b", "x/a", "x/b", "x/y/c", "dots.in.name"]):
        write(tmp_path / "images" / f"{name}.jpg", i)
        write(tmp_path / "masks" / f"{name}.png", i)
    return tmp_path


def module(folders, **options):
    options = {"batch_size": 4, "size": 16, "workers": 0, **options}
    return SaliencyDataModule(folders / "images", options.pop("masks", folders / "masks"), **options)


def epochs(loader, count):
    for _ in range(count):
        list(loader)


def indices(loader):
    return sorted(i for batch in loader for i in batch["index"].tolist())


def test_labels_from_folders(tmp_path):
    for split in ("train", "val"):
        for i, name in enumerate(["cat/a", "ant/a", "cat/deep/b", "bee/c"]):
            write(tmp_path / split / f"{name}.jpg", i)
    data = SaliencyDataModule(
        tmp_path / "train", val_images=tmp_path / "val", labels="folders", size=16, batch_size=4, workers=0
    )
    data.setup()
    (batch,) = data.val_dataloader()
    # In the order of paths: ant/a, bee/c, cat/a, cat/deep/b.
    assert batch["label"].tolist() == [0, 1, 2, 2]
    assert data.sources[0].classes == ["ant", "bee", "cat"]
    assert "label" not in next(iter(data.train_dataloader())), "CAST trains without labels"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("train/loose.jpg", "images=.*train: .*folder of its class, but loose.jpg is not"),
        ("val/dog/a.jpg", "dog differ"),
    ],
)
def test_labels_that_folders_do_not_tell(tmp_path, extra, words):
    for name in ("train/cat/a.jpg", "train/ant/a.jpg", "val/cat/a.jpg", "val/ant/a.jpg", extra):
        write(tmp_path / name)
    data = SaliencyDataModule(tmp_path / "train", val_images=tmp_path / "val", labels="folders", size=16, workers=0)
    with pytest.raises(InputError, match=words):
        data.setup()
    with pytest.raises(InputError, match="labels"):
        SaliencyDataModule(tmp_path / "train", labels="names")


def test_pairs_by_relative_path(folders):
    write(folders / "masks" / "a.jpg")  # the PNG comes first
    write(folders / "images" / ".hidden.jpg")
    write(folders / "images" / ".cache" / "thumb.jpg")
    (folders / "images" / "notes.txt").write_text("not an image")
    source = FileSource(folders / "images", folders / "masks")
    assert len(source) == 6
    for i in range(6):
        image, mask = source.image_path(i), source.mask_path(i)
        assert image.relative_to(folders / "images").with_suffix(".png") == mask.relative_to(folders / "masks")
        item = source.read(i)
        assert item.image.decode().shape == item.image.shape == (30, 40, 3)
        assert set(np.unique(item.mask)) == {0, 1}


def test_suffixes(tmp_path):
    for name in ("a.JPG", "b.webp", "c.BMP", "d.Jpeg"):
        write(tmp_path / "images" / name)
    write(tmp_path / "masks" / "a.PNG")
    for name in ("b.jpg", "c.bmp", "d.webp"):
        write(tmp_path / "masks" / name)
    source = FileSource(tmp_path / "images", tmp_path / "masks")
    assert [source.mask_path(i).name for i in range(4)] == ["a.PNG", "b.jpg", "c.bmp", "d.webp"]


def test_batches(folders):
    data = module(folders, val_images=folders / "images", val_masks=folders / "masks")
    (batch,) = data.train_dataloader()
    assert batch["query"].shape == (4, 3, 16, 16)
    assert batch["key_mask"].shape == (4, 1, 16, 16)
    batches = list(data.val_dataloader())
    assert [len(batch["index"]) for batch in batches] == [4, 2]
    assert set(batches[0]) == {"image", "mask", "index"}


def test_without_masks(folders):
    data = module(folders, masks=None)
    batch = next(iter(data.train_dataloader()))
    assert not batch["query_mask"].any()
    assert not next(iter(data.val_dataloader()))["mask"].any()


def test_default_validation_images(folders):
    assert indices(module(folders).val_dataloader()) == list(range(6))
    few = [indices(module(folders, val_count=3, seed=seed).val_dataloader()) for seed in (0, 1)]
    assert len(few[0]) == 3
    assert few[0] == few[1]


def test_validation_crop(tmp_path):
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 50:150] = 255
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "a.png")
    Image.fromarray(image[..., 0]).save(tmp_path / "masks" / "a.png")
    source = FileSource(tmp_path / "images", tmp_path / "masks")
    sample = EvalDataset(source, 50, 50)[0]
    assert sample["image"].min() == 255
    assert sample["mask"].all()
    assert EvalDataset(source, 50, 100)[0]["image"].shape == (50, 50, 3)


class TestMissingMasks:
    @pytest.fixture
    def incomplete(self, folders):
        for name in ("b.png", "x/b.png"):
            (folders / "masks" / name).unlink()
        return folders

    def test_error(self, incomplete):
        with pytest.raises(
            InputError, match=r"2 of 6 images cannot .*\(2 mask missing: b.jpg, x/b.jpg\); .*on_bad=drop"
        ):
            module(incomplete).setup()

    def test_drop(self, incomplete, caplog):
        data = module(incomplete, on_bad="drop")
        assert len(data.sources[0]) == 4
        assert "2 mask missing" in caplog.text
        assert "2 are left out, 0 are used without a mask" in caplog.text
        assert {data.sources[0].image_path(i).name for i in range(4)} == {"a.jpg", "c.jpg", "dots.in.name.jpg"}

    def test_unconstrained(self, incomplete):
        data = module(incomplete, on_bad="unconstrained", batch_size=6)
        (batch,) = data.train_dataloader()
        empty = ~batch["query_mask"].flatten(1).bool().any(1)
        names = [data.sources[0].image_path(i).name for i in batch["index"][empty].tolist()]
        assert names == ["b.jpg", "b.jpg"]

    def test_long_lists_of_names(self, folders):
        for i in range(20):
            write(folders / "images" / f"n{i:02d}.jpg")
        with pytest.raises(InputError, match=r"20 of 26 .*n04.jpg and 15 more\); repair"):
            module(folders).setup()

    @pytest.mark.parametrize("on_bad", ["error", "drop"])
    def test_no_mask_at_all(self, folders, on_bad):
        (folders / "other").mkdir()
        with pytest.raises(InputError, match=r"none of the 6 images has a mask: expected .*other.a.png"):
            module(folders, masks=folders / "other", on_bad=on_bad).setup()


class TestUnreadableFiles:
    @pytest.fixture
    def spoiled(self, folders):
        (folders / "images" / "b.jpg").write_bytes(b"")
        (folders / "masks" / "x" / "b.png").write_text("no mask")
        return folders

    def test_error(self, spoiled):
        with pytest.raises(InputError, match=r"1 image unreadable: b.jpg; 1 mask unreadable: x/b.jpg") as caught:
            module(spoiled).setup()
        assert "\n" not in str(caught.value)

    def test_drop(self, spoiled):
        (batch,) = module(spoiled, on_bad="drop", batch_size=6).train_dataloader()
        assert len(batch["index"]) == len(batch["query"]) == 4

    def test_unconstrained(self, spoiled):
        (batch,) = module(spoiled, on_bad="unconstrained", batch_size=6).train_dataloader()
        assert len(batch["index"]) == 5
        assert (~batch["query_mask"].flatten(1).bool().any(1)).sum() == 1


class TestBadDuringTraining:
    """Files that become bad after they were indexed."""

    @pytest.mark.usefixtures("ended_workers")
    @pytest.mark.parametrize("workers", [0, 2])
    def test_error(self, folders, workers):
        loader = module(folders, workers=workers).train_dataloader()
        (folders / "images" / "b.jpg").write_bytes(b"")
        (folders / "masks" / "x" / "b.png").write_text("no mask")
        with pytest.raises(
            InputError, match=r"(b.jpg: the file is empty|b.png: is not an image).*on_bad=drop"
        ) as caught:
            epochs(loader, 3)
        assert "\n" not in str(caught.value)  # torch adds the worker's traceback, which SampleError removes
        assert str(caught.value).startswith(str(folders))

    def test_drop(self, folders, caplog):
        loader = module(folders, on_bad="drop", batch_size=6).train_dataloader()
        assert len(next(iter(loader))["index"]) == 6
        (folders / "images" / "a.jpg").unlink()
        (folders / "images" / "b.jpg").write_bytes((folders / "images" / "b.jpg").read_bytes()[:500])
        (folders / "masks" / "x" / "b.png").write_text("no mask")
        for _ in range(3):
            (batch,) = loader
            assert len(batch["index"]) == len(batch["query"]) == 3
        assert len(caplog.records) == 3
        assert "a.jpg: cannot be read (No such file or directory); left out (on_bad=drop)" in caplog.text
        assert "b.jpg: the JPEG is cut short" in caplog.text

    def test_unconstrained(self, folders, caplog):
        loader = module(folders, on_bad="unconstrained", batch_size=6).train_dataloader()
        (folders / "masks" / "b.png").unlink()
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(folders / "masks" / "a.png")
        for _ in range(2):
            (batch,) = loader
            assert (~batch["query_mask"].flatten(1).bool().any(1)).sum() == 2
        assert caplog.text.count("its image is used without a mask") == 2
        assert "a.png: nothing is salient" in caplog.text

    def test_workers_report_once(self, folders, tmp_path):
        report = DataReport(tmp_path / "data_report.csv")
        source = FileSource(folders / "images", folders / "masks", on_bad="drop", report=report)
        (folders / "images" / "b.jpg").unlink()
        dataset = ViewDataset(source, TwoViews(8))
        loader = DataLoader(dataset, 3, num_workers=2, collate_fn=collate, multiprocessing_context="fork")
        for _ in range(4):  # not persistent: new workers each time
            list(loader)
        rows = list(csv.DictReader(report.path.read_text().splitlines()))
        assert [(row["image"], row["problem"]) for row in rows] == [("b.jpg", "bad during training")]

    def test_many_bad_samples(self, tmp_path, caplog):
        bad = BadSamples("drop", 100, report=DataReport(tmp_path / "data_report.csv"))
        for i in range(100):
            bad.handle(i, SampleError(f"{i}.jpg: broken"), mask=False)
        assert len(caplog.records) == 51
        assert "50 samples were bad so far: further ones are not logged; " in caplog.records[-1].message
        assert len((tmp_path / "data_report.csv").read_text().splitlines()) == 101

    def test_replaced_image(self, folders):
        source = FileSource(folders / "images", folders / "masks")
        write(folders / "images" / "a.jpg", size=(60, 80))
        item = source.read(0)
        assert item.image.shape == (60, 80, 3)
        assert item.mask.shape == (60, 80)

    def test_full_batches_on_several_processes(self, folders):
        sample = ViewDataset(FileSource(folders / "images", folders / "masks"), TwoViews(8))
        good = [sample[i] for i in range(3)]
        batch = collate([good[0], None, good[1], None], whole=True)
        assert batch["index"].tolist() == [0, 1, 0, 1]
        assert torch.equal(batch["query"][0], batch["query"][2])
        with pytest.raises(InputError, match="none of the 2 images"):
            collate([None, None], whole=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"images": "nowhere"},
            FileNotFoundError,
            r"images=.*nowhere does not exist: give the folder that holds the pho",
        ),
        ({"images": "images/a.jpg"}, FileNotFoundError, r"a.jpg is a file, not a folder"),
        (
            {"masks": "nowhere"},
            FileNotFoundError,
            r"masks=.*nowhere does not exist: give the folder that holds the sal",
        ),
        ({"images": "empty"}, InputError, r"images=.*empty holds no images \(.png, .jpg"),
        ({"images": "twins"}, InputError, r"2 mask shared by two images: a.bmp, a.jpg"),
        ({"masks": "images/a.jpg"}, InputError, r"masks=.*a.jpg is a file: give a folder of masks, or COCO's"),
        ({"masks": "none.json"}, FileNotFoundError, r"masks=.*none.json does not exist"),
        ({"threshold": 1.5}, InputError, "threshold must be at most 1"),
        ({"photometric": "gpu"}, InputError, "photometric must be one of cpu, device, auto"),
        ({"val_images": "nowhere"}, FileNotFoundError, "val_images=.*nowhere does not exist"),
        ({"val_images": "images", "val_masks": "nowhere"}, FileNotFoundError, "val_masks=.*nowhere does not exist"),
        ({"val_masks": "masks"}, InputError, "val_masks needs val_images"),
        ({"on_bad": "skip"}, InputError, "on_bad must be one of error, drop, unconstrained"),
        ({"val_count": 0}, InputError, "val_count"),
        ({"val_resize": 5}, InputError, "val_resize"),
    ],
)
def test_bad_arguments(folders, options, error, message):
    (folders / "empty").mkdir()
    write(folders / "twins" / "a.jpg")
    write(folders / "twins" / "a.bmp")
    paths = {"images": "images", "masks": "masks"}
    options = {**paths, **options}
    for key in ("images", "masks", "val_images", "val_masks"):
        if key in options:
            options[key] = folders / options[key]
    with pytest.raises(error, match=message) as caught:
        SaliencyDataModule(**{"size": 16, "workers": 0, **options}).setup()
    assert "\n" not in str(caught.value)


def test_coco_folders(tmp_path):
    for split in ("train2017", "val2017"):
        for i in range(3):
            write(tmp_path / "coco" / split / f"{i}.jpg", i)
            write(tmp_path / "masks" / split / f"{i}.png", i)
    data = CocoDataModule(tmp_path / "coco", tmp_path / "masks", size=16, batch_size=3, workers=0)
    assert len(next(iter(data.train_dataloader()))["index"]) == 3
    assert indices(data.val_dataloader()) == [0, 1, 2]
    assert CocoDataModule(str(tmp_path / "coco"), size=16, workers=0).sources[0].masks is None
    with pytest.raises(FileNotFoundError, match=r"root=.*nowhere does not exist: give the folder that holds train2017"):
        CocoDataModule(tmp_path / "nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"root=.* has no folder train2017, which should hold COCO's photographs"
    ):
        CocoDataModule(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"masks=.* has no folder train2017, which should hold their masks"):
        CocoDataModule(tmp_path / "coco", tmp_path)


@pytest.mark.parametrize(("encode", "decode"), [(encode_path, decode_path), (encode_text, decode_text)])
def test_bytes_array(encode, decode):
    values = ["", "a/b.jpg", "größe/图.png", "\udcff raw byte", "z"]
    strings = BytesArray.of([encode(value) for value in values])
    assert [decode(strings[i]) for i in range(len(strings))] == values
    assert decode(strings[-1]) == "z"
    assert len(BytesArray.of([])) == 0
    with pytest.raises(IndexError):
        strings[5]


def test_logger_name(folders, caplog):
    (folders / "images" / "a.jpg").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        indices(module(folders, on_bad="drop", batch_size=6).train_dataloader())
    assert {record.name for record in caplog.records} == {"castlit.data.index.bad_files"}


@pytest.mark.skipif(not MINI.is_dir(), reason="the shared photographs (../shared/data/mini) are missing")
class TestPhotographs:
    @pytest.fixture
    def data(self):
        return CocoDataModule(MINI, MINI / "masks", batch_size=16, size=96, workers=0)

    def test_read_pairs(self, data):
        source = data.sources[0]
        assert len(source) == 119
        for i in range(0, 119, 4):
            item = source.read(i)
            assert item.mask.shape == item.image.decode().shape[:2]
            with Image.open(source.mask_path(i)) as mask:
                assert np.array_equal(item.mask, np.asarray(mask.convert("L")) > 128)

    def test_batches_with_workers(self, data):
        batch = next(iter(data.train_dataloader()))
        assert torch.isfinite(batch["query"]).all()
        assert abs(batch["query"].mean()) < 1
        assert batch["query_mask"].flatten(1).bool().any(1).float().mean() > 0.9
        with_workers = CocoDataModule(MINI, MINI / "masks", batch_size=16, size=96, workers=2)
        other = next(iter(with_workers.train_dataloader()))
        assert all(torch.equal(batch[key], other[key]) for key in batch)

    def test_validation(self, data):
        assert indices(data.val_dataloader()) == list(range(47))
