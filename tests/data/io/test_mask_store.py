"""Masks that a run makes itself: their versions, the store that sources read them from, and the full images."""

import numpy as np
import pytest
import torch
from PIL import Image

from castlit.data import CocoDataModule, FileSource, SaliencyDataModule, ShardsDataModule
from castlit.data.datamodules.full_images import FullImages, full_image_loader, self_masked_sources
from castlit.data.io import mask_versions
from castlit.data.io.errors import SampleError
from castlit.utils.validation import InputError


@pytest.fixture
def photographs(tmp_path):
    """Seven images: two have the same stem, one is in a subfolder."""
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "c.png", "c.jpg", "below/a.jpg", "d.jpg", "e.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(path)
    return tmp_path


def module(folder, **options):
    options = {"batch_size": 3, "size": 16, "workers": 0, "colours": None, **options}
    return SaliencyDataModule(folder / "images", "self", **options)


def left(levels=255):
    """A map of another size than the images, salient in the left half."""
    found = np.zeros((10, 10), np.uint8)
    found[:, :5] = levels
    return found


def make(store, folder, version, masks):
    mask_versions.begin(folder, version)
    for name, levels in masks.items():
        store.write(mask_versions.part_of(folder, version), name, levels)
    mask_versions.finish(folder, version)


def test_use_version(photographs, tmp_path):
    source = FileSource(photographs / "images", own_masks=True)
    names = [source.entry(i).image for i in range(len(source))]
    assert all(source.read(i).mask is None for i in range(len(source)))
    source.mask_store.folder = tmp_path / "made"
    make(source.mask_store, source.mask_store.folder, 5, {name: left() for name in names})
    assert source.read(0).mask is None, "the version is not in use yet"
    source.mask_store.use_version(5)
    expected = np.zeros((30, 40), np.uint8)
    expected[:, :20] = 1
    for i in range(len(source)):
        np.testing.assert_array_equal(source.read(i).mask, expected)
    assert sorted(path.name for path in (tmp_path / "made" / "epoch_5" / "train").glob("*.png")) == [
        "a.png",
        "b.png",
        "c.jpg.png",
        "c.png.png",
        "d.png",
        "e.png",
    ]
    assert (tmp_path / "made" / "epoch_5" / "train" / "below" / "a.png").is_file()
    source.mask_store.use_version(None)
    assert source.read(0).mask is None


def test_threshold(photographs, tmp_path):
    source = FileSource(photographs / "images", own_masks=True, threshold=0.7)
    source.mask_store.folder = tmp_path / "made"
    masks = {source.entry(i).image: left(level) for i, level in enumerate((0, 178, 179, 255, 255, 255, 255))}
    make(source.mask_store, source.mask_store.folder, 0, masks)
    source.mask_store.use_version(0)
    assert [source.read(i).mask is None for i in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("on_bad", ["error", "unconstrained"])
def test_missing_file(photographs, tmp_path, on_bad):
    source = FileSource(photographs / "images", own_masks=True, on_bad=on_bad)
    source.mask_store.folder = tmp_path / "made"
    make(source.mask_store, source.mask_store.folder, 1, {})
    source.mask_store.use_version(1)
    if on_bad == "unconstrained":
        assert source.read(0).mask is None
    else:
        with pytest.raises(SampleError, match=r"epoch_1/train/a\.png: cannot be read"):
            source.read(0)


def test_write_error(photographs, tmp_path):
    store = FileSource(photographs / "images", own_masks=True).mask_store
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/train/a\.png: the mask cannot be written"):
        store.write(tmp_path / "file", "a.jpg", left())


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_switch_versions(photographs, tmp_path, workers):
    data = module(photographs, workers=workers, flip=0.0, scale=(1.0, 1.0), ratio=(0.1, 10.0))
    data.setup("fit")
    ((source, _),) = self_masked_sources(data)
    source.mask_store.folder = tmp_path / "made"
    names = [source.entry(i).image for i in range(len(source))]
    make(source.mask_store, source.mask_store.folder, 1, {name: left() for name in names})
    make(source.mask_store, source.mask_store.folder, 2, {name: left()[:, ::-1] for name in names})
    loader = data.train_dataloader()
    seen = []
    for version in (None, 1, 2):
        source.mask_store.use_version(version)
        masks = torch.cat([batch["query_mask"] for batch in loader]).float().mean((0, 1, 2))
        seen.append((masks[:8].mean().item(), masks[8:].mean().item()))
    assert seen == [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]


def test_versions_are_atomic(tmp_path):
    for version in (1, 2, 3):
        mask_versions.begin(tmp_path, version)
        (mask_versions.part_of(tmp_path, version) / "x").write_text(str(version))
        assert not mask_versions.folder_of(tmp_path, version).exists()
        mask_versions.finish(tmp_path, version)
    mask_versions.begin(tmp_path, 4)  # interrupted
    (mask_versions.part_of(tmp_path, 4) / "half").touch()
    mask_versions.begin(tmp_path, 4)
    assert not list(mask_versions.part_of(tmp_path, 4).iterdir()), "begin empties the folder"
    mask_versions.begin(tmp_path, 3)
    mask_versions.finish(tmp_path, 3)
    assert not (mask_versions.folder_of(tmp_path, 3) / "x").exists(), "finish replaces the version"
    (tmp_path / "notes.txt").touch()
    mask_versions.remove_all_but(tmp_path, {2, 3, None})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_2", "epoch_3", "notes.txt"]
    mask_versions.copy(tmp_path, tmp_path / "other", 2)
    assert (tmp_path / "other" / "epoch_2" / "x").read_text() == "2"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["epoch_2"]


def test_self_masked_sources(photographs):
    (photographs / "masks").mkdir()
    for name in ("a", "b", "d", "e"):
        Image.fromarray(left()).save(photographs / "masks" / f"{name}.png")
    alone = module(photographs)
    alone.setup("fit")
    (found,) = self_masked_sources(alone)
    assert found[0].mask_store.split == "train"
    assert found[1].tolist() == list(range(7))
    assert alone.sources[1] is found[0], "validation uses a sample of the training images"

    both = module(photographs, val_images=photographs / "images", val_count=3)
    both.setup("fit")
    (train, val) = self_masked_sources(both)
    assert (train[0].mask_store.split, val[0].mask_store.split) == ("train", "val")
    assert val[1].tolist() == both.sources[2].tolist()
    assert len(val[1]) == 3

    with_val_masks = module(
        photographs, val_images=photographs / "images", val_masks=photographs / "masks", on_bad="unconstrained"
    )
    with_val_masks.setup("fit")
    assert [source.mask_store.split for source, _ in self_masked_sources(with_val_masks)] == ["train"]
    assert len(with_val_masks.val_dataloader().dataset) == 7, "their masks need not be made"

    plain = SaliencyDataModule(photographs / "images", size=16, batch_size=3, workers=0)
    plain.setup("fit")
    assert self_masked_sources(plain) == []
    assert self_masked_sources(None) == []


def test_loaders_need_a_mask_maker(photographs):
    data = module(photographs)
    data.setup()
    for loader in (data.train_dataloader, data.val_dataloader):
        with pytest.raises(InputError, match=r"made while a run trains, by castlit\.callbacks\.SelfMasks"):
            loader()


def test_spelling_of_self(photographs, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="masks=Self: there is no such folder; masks=self, in small letters"):
        SaliencyDataModule(photographs / "images", "Self")
    with pytest.raises(InputError, match="val_masks=self needs masks=self"):
        SaliencyDataModule(photographs / "images", val_images=photographs / "images", val_masks="self")
    with pytest.raises(InputError, match="not data=shards"):
        ShardsDataModule("a.tar", masks="self")
    (tmp_path / "self").mkdir()
    for name in ("a", "b", "c", "d", "e", "below/a"):
        path = tmp_path / "self" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(left()).save(path)
    folder = SaliencyDataModule(photographs / "images", "./self", size=16, workers=0, on_bad="unconstrained")
    folder.setup()
    assert self_masked_sources(folder) == []
    assert folder.sources[0].read(0).mask is not None
    assert not caplog.messages or "./self" not in caplog.text
    made = module(photographs)
    made.setup()
    assert "to use the folder named self, give ./self" in caplog.text
    assert made.sources[0].read(0).mask is None


def test_coco(photographs):
    for split in ("train2017", "val2017"):
        (photographs / "coco").mkdir(exist_ok=True)
        (photographs / "coco" / split).symlink_to(photographs / "images")
    data = CocoDataModule(photographs / "coco", "self", size=16, workers=0, val_count=2)
    data.setup()
    assert [(source.mask_store.split, len(which)) for source, which in self_masked_sources(data)] == [
        ("train", 7),
        ("val", 2),
    ]


def test_full_image_loader(photographs):
    data = module(photographs)
    data.setup()
    ((source, _),) = self_masked_sources(data)
    batches = [np.array([3, 0]), np.array([5])]
    first, second = list(full_image_loader(data, source, batches, 8))
    assert first["index"].tolist() == [3, 0]
    assert second["index"].tolist() == [5]
    assert first["image"].shape == (2, 3, 8, 8)
    assert first["image"].dtype == torch.uint8
    full = np.asarray(Image.open(source.image_path(5)).convert("RGB"), np.float64)
    shown = second["image"][0].permute(1, 2, 0).double().numpy()
    assert abs(shown.mean((0, 1)) - full.mean((0, 1))).max() < 3


def test_full_image_loader_with_bad_images(photographs):
    data = module(photographs, on_bad="drop")
    data.setup()
    ((source, _),) = self_masked_sources(data)
    source.image_path(0).write_bytes(b"no image")
    batches = list(full_image_loader(data, source, [np.array([0, 1]), np.array([0])], 8))
    assert batches[0]["index"].tolist() == [1]
    assert batches[1] is None
    assert len(FullImages(source, 8)) == 7
