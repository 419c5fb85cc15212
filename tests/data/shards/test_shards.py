"""Batches from shards: every sample once, the same batches for any number of workers, and bad samples."""

import io
import json
import logging
import pickle
import re
import tarfile
from collections import Counter

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from castlit.crops import SaliencyCrop
from castlit.data import ShardsDataModule
from castlit.data.datamodules.datasets import collate
from castlit.data.io.errors import SampleError
from castlit.data.shards.dataset import ShardDataset
from castlit.data.shards.plan import Plan
from castlit.utils.validation import InputError

UNEVEN = (7, 1, 12, 0, 5, 9)


def encoded(image, suffix):
    if suffix == ".npy":
        file = io.BytesIO()
        np.save(file, image)
        return file.getvalue()
    return cv2.imencode(suffix, image)[1].tobytes()


def photo(seed, size=(24, 32)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def mask(seed, size=(24, 32)):
    image = np.zeros(size, np.uint8)
    image[4 + seed % 8 : 16, 6:20] = 255
    return image


def sample(seed):
    return {"jpg": encoded(photo(seed), ".jpg"), "mask.png": encoded(mask(seed), ".png")}


def write(path, samples):
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """34 samples in shards without a ``shards.json``."""
    folder = tmp_path_factory.mktemp("shards")
    number = 0
    for shard, count in enumerate(UNEVEN):
        write(folder / f"{shard}.tar", {f"{shard}_{i}": sample(number + i) for i in range(count)})
        number += count
    return folder


def module(urls, **options):
    urls = f"{urls}/{{0..{len(UNEVEN) - 1}}}.tar" if not isinstance(urls, (str, list)) else urls
    return ShardsDataModule(urls, **{"batch_size": 4, "size": 16, "workers": 0, "shuffle": 5, **options})


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def indices(batches):
    return [batch["index"].tolist() for batch in batches]


def test_overfitting_repeats_the_same_batches(folder):
    """Lightning's trainer.overfit_batches replaces the sampler by one that counts batches, and knows no epochs."""
    dataset = module(folder).train_dataloader().dataset
    first, again = (torch.utils.data.DataLoader(dataset, batch_size=None, collate_fn=collate) for _ in range(2))
    assert all(map(same, list(first)[:3], list(again)[:3]))
    assert indices(first)[0] == indices(module(folder).train_dataloader())[0]


@pytest.fixture
def ranks(monkeypatch):
    """Make this process look like one of several."""

    def pretend(world, rank):
        monkeypatch.setattr("castlit.data.io.bad_samples.several_ranks", lambda: world > 1)
        monkeypatch.setattr("castlit.data.shards.datamodule.world_size", lambda: world)
        monkeypatch.setattr("castlit.data.shards.datamodule.rank", lambda: rank)

    return pretend


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on few cores
class TestPartition:
    @pytest.mark.parametrize("workers", [0, 1, 2])
    @pytest.mark.parametrize("drop_last", [True, False])
    @pytest.mark.parametrize("world", [1, 2, 3])
    def test_every_sample_once(self, folder, ranks, world, drop_last, workers):
        loaders = []
        for rank in range(world):
            ranks(world, rank)
            loaders.append(module(folder, drop_last=drop_last, workers=workers).train_dataloader())
        for _ in range(2):
            batches = [indices(loader) for loader in loaders]
            lengths = [[len(batch) for batch in own] for own in batches]
            assert all(each == lengths[0] for each in lengths), "all ranks have batches of the same size"
            seen = Counter(index for own in batches for batch in own for index in batch)
            assert set(seen) <= set(range(34))
            if drop_last:
                assert set(lengths[0]) == {4}
                assert len(lengths[0]) == 34 // (4 * world)
                assert set(seen.values()) == {1}
            else:
                assert set(lengths[0][:-1]) == {4}
                assert len(seen) == 34
                assert seen.total() - 34 < world

    @pytest.mark.parametrize("workers", [1, 2, 4])
    def test_batches_do_not_depend_on_workers(self, folder, workers):
        alone, together = module(folder).train_dataloader(), module(folder, workers=workers).train_dataloader()
        for _ in range(2):
            here, there = list(alone), list(together)
            assert len(here) == len(there) == 8
            assert all(map(same, here, there))

    def test_workers_must_divide_the_lanes(self, folder, caplog):
        data = module(folder, workers=3)
        assert data.train_dataloader().num_workers == 2
        assert data.val_dataloader().num_workers == 2
        assert [record.getMessage() for record in caplog.records] == [
            "workers=3: 2 are used, as shards need 1, 2, 4, 8 or 16"
        ]

    def test_epochs_leave_out_different_samples(self, tmp_path):
        one = write(tmp_path / "0.tar", {str(i): sample(i) for i in range(11)})
        loader = module(one).train_dataloader()
        epochs = [indices(loader) for _ in range(6)]
        assert {index for epoch in epochs for batch in epoch for index in batch} == set(range(11))
        assert len({str(epoch) for epoch in epochs}) == 6

    def test_fewer_samples_than_a_batch(self, folder):
        (batch,) = module(folder, batch_size=50).train_dataloader()
        assert sorted(batch["index"].tolist()) == list(range(34))

    def test_without_shuffle(self, folder):
        for batch in module(folder, shuffle=0, batch_size=2).train_dataloader():
            first, second = batch["index"].tolist()
            assert second == first + 1 or second in (0, 7, 8, 20, 25), "the next one, or the first of a shard"


class TestPlan:
    @pytest.mark.parametrize("drop_last", [True, False])
    @pytest.mark.parametrize(("counts", "batch_size", "world"), [([100, 3, 250], 3, 2), ([1000], 7, 4), ([5, 5], 1, 3)])
    def test_lanes_are_full_batches(self, counts, batch_size, world, drop_last):
        counts = np.array(counts)
        seen = Counter()
        for rank in range(world):
            plan = Plan(counts, batch_size, world=world, rank=rank, drop_last=drop_last)
            for lane in range(plan.lanes):
                length = sum(plan.batch_length(n) for n in range(lane, plan.batches, plan.lanes))
                segments = plan.segments(3, lane)
                assert sum(stop - start for _, start, stop in segments) == length
                for shard, start, stop in segments:
                    assert 0 <= start < stop <= counts[shard]
                    seen.update((shard, i) for i in range(start, stop))
        assert set(seen.values()) == {1} or (not drop_last and seen.total() - counts.sum() < world)
        assert len(seen) == (counts.sum() // (batch_size * world) * batch_size * world if drop_last else counts.sum())

    def test_no_samples(self):
        with pytest.raises(InputError, match="the 2 shards have no samples"):
            Plan(np.array([0, 0]), 4)


class TestStreams:
    """A lane's stream stays open between batches, which may be requested in any order."""

    @pytest.fixture
    def opened(self, monkeypatch):
        lanes = []
        stream = ShardDataset._stream
        monkeypatch.setattr(
            ShardDataset, "_stream", lambda self, epoch, lane: lanes.append((epoch, lane)) or stream(self, epoch, lane)
        )
        return lanes

    def test_lanes_are_opened_once_per_epoch(self, folder, opened):
        loader = module(folder, batch_size=1).train_dataloader()
        for _ in range(2):
            list(loader)
        assert sorted(opened) == [(epoch, lane) for epoch in range(2) for lane in range(16)]

    def test_any_order(self, folder):
        dataset = module(folder, batch_size=1).train_dataloader().dataset
        expected = [dataset[1, number][0]["index"] for number in range(34)]
        for number in np.random.default_rng(0).permutation(34).tolist():
            assert dataset[1, number][0]["index"] == expected[number]

    def test_files_are_closed(self, folder):
        loader = module(folder, batch_size=1).train_dataloader()
        next(iter(loader))
        assert len(loader.dataset._lanes) == 1
        loader.dataset[1, 5]
        assert list(loader.dataset._lanes) == [5]
        loader.dataset.close()
        assert not loader.dataset._lanes

    def test_copies_reopen_their_files(self, folder):
        """Pickled copies, and workers that are forked while streams are open."""
        dataset = module(folder, batch_size=1).train_dataloader().dataset
        expected = [dataset[0, number][0]["index"] for number in (0, 16)]
        copy = pickle.loads(pickle.dumps(dataset))
        assert [copy[0, number][0]["index"] for number in (0, 16)] == expected
        dataset._owner = (-1, 0)
        assert dataset[0, 16][0]["index"] == expected[1]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_resume_within_an_epoch(self, folder, workers):
        loader = module(folder, workers=workers).train_dataloader()
        list(loader)
        epoch = list(loader)
        state = {"epoch": 1, "images": 12}
        resumed = module(folder, workers=workers).train_dataloader()
        resumed.load_state_dict(state)
        batches = iter(resumed)
        first = next(batches)
        assert resumed.state_dict() == {"epoch": 1, "images": 16}
        rest = [first, *batches]
        assert len(rest) == 5
        assert all(map(same, rest, epoch[3:]))
        assert indices(resumed) == indices(loader), "the next epoch follows"


@pytest.mark.parametrize(
    ("members", "image", "salient"),
    [
        ({"jpg": ".jpg", "mask.png": ".png"}, "jpg", True),
        ({"jpeg": ".jpg", "mask.npy": ".npy"}, "jpeg", True),
        ({"webp": ".webp", "seg.png": ".png"}, "webp", True),
        ({"jpg": ".jpg", "png": ".png"}, "jpg", True),
        ({"png": ".png", "npy": ".npy"}, "png", True),
        ({"JPG": ".jpg", "mask.PNG": ".png", "cls": b"3", "txt": b"a dog"}, "jpg", True),
        ({"jpg": ".jpg", "other.png": ".png"}, "jpg", False),
    ],
)
def test_members(tmp_path, members, image, salient):
    def data(name, suffix):
        if isinstance(suffix, bytes):
            return suffix
        return encoded(photo(0) if name.lower() == image else mask(0), suffix)

    url = write(tmp_path / "0.tar", {"a": {name: data(name, suffix) for name, suffix in members.items()}})
    source = module(url, on_bad="unconstrained").sources[1]
    item = source.read(0)
    assert item.image.shape == (24, 32, 3)
    assert (item.mask is not None) == salient
    if salient:
        assert np.array_equal(item.mask != 0, mask(0) != 0)
    assert module(url, masks=None).sources[1].read(0).mask is None


def test_mask_suffix(tmp_path):
    url = write(tmp_path / "0.tar", {"a": {**sample(0), "saliency.png": encoded(255 - mask(0), ".png")}})
    item = module(url, masks=".saliency.png").sources[1].read(0)
    assert np.array_equal(item.mask != 0, mask(0) == 0)


def test_mask_kind(tmp_path):
    numbers = mask(0) // 255 * 13
    url = write(tmp_path / "0.tar", {"a": {"jpg": encoded(photo(0), ".jpg"), "mask.png": encoded(numbers, ".png")}})
    data = module(url, mask_kind="labels")
    assert np.array_equal(data.sources[1].read(0).mask, mask(0) // 255)
    assert next(iter(data.train_dataloader()))["query_mask"].any()
    with pytest.raises(InputError, match="mask_kind must be one of auto, levels, labels, colours"):
        module(url, mask_kind="label")


def test_validation(folder):
    data = module(folder, val_count=6, val_urls=str(folder / "2.tar"))
    (first, second) = data.val_dataloader()
    assert set(first) == {"image", "mask", "index"}
    assert first["index"].tolist() + second["index"].tolist() == list(range(6))
    assert first["image"].shape == (4, 3, 16, 16)
    assert first["mask"].any()
    assert len(module(folder, val_count=12).sources[1]) == 12
    assert len(module(folder).sources[1]) == 34


BAD = {
    "unreadable image": ({"jpg": b"no image", "mask.png": encoded(mask(0), ".png")}, "is not an image", False),
    "cut image": ({"jpg": sample(0)["jpg"][:-300], "mask.png": encoded(mask(0), ".png")}, "cut short", False),
    "empty image": ({"jpg": b"", "mask.png": encoded(mask(0), ".png")}, "the file is empty", False),
    "no image": ({"txt": b"a dog"}, "has no image", False),
    "names with dots": (
        {"edit.jpg": sample(0)["jpg"], "edit.mask.png": encoded(mask(0), ".png")},
        "has no image .*; it has .edit.jpg and .edit.mask.png: a sample's name ends at its first dot, so rename such",
        False,
    ),
    "many names with dots": (
        {f"{i}.x.jpg": sample(0)["jpg"] for i in range(9)},
        r"has no image .*; it has .0.x.jpg and .1.x.jpg and 7 more: a sample's name",
        False,
    ),
    "a mask with dots": (
        {"jpg": sample(0)["jpg"], "edit.mask.png": encoded(mask(0), ".png")},
        "has no mask; it has .edit.mask.png: a sample's name .* or give masks= the suffix of its mask",
        True,
    ),
    "no mask": ({"jpg": sample(0)["jpg"]}, "has no mask", True),
    "unreadable mask": ({"jpg": sample(0)["jpg"], "mask.png": b"no mask"}, "is not an image", True),
    "empty mask": ({"jpg": sample(0)["jpg"], "mask.png": encoded(mask(0) * 0, ".png")}, "nothing is salient", True),
    "label map": (
        {"jpg": sample(0)["jpg"], "mask.png": encoded(mask(0) // 255 * 12 + mask(3) // 255, ".png")},
        "a label map, since its levels 0, 12, 13 are neither",
        True,
    ),
    "other shape": (
        {"jpg": sample(0)["jpg"], "mask.png": encoded(mask(0, (24, 99)), ".png")},
        "99 x 24, which cannot show an image of 32 x 24",
        True,
    ),
}


@pytest.mark.parametrize(("members", "words", "has_image"), BAD.values(), ids=BAD.keys())
class TestBadSamples:
    @pytest.fixture
    def spoiled(self, tmp_path, members):
        metadata = {"json": json.dumps({"image": "x/b.jpg"}).encode()}
        return write(tmp_path / "0.tar", {"a": sample(0), "b": {**members, **metadata}, "c": sample(2)})

    def test_error(self, spoiled, words, has_image):
        for loader in (module(spoiled).train_dataloader(), module(spoiled).val_dataloader()):
            with pytest.raises(SampleError, match=words) as caught:
                list(loader)
            assert f"{spoiled}: b" in str(caught.value)
            assert "(x/b.jpg)" in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_drop(self, spoiled, words, has_image, caplog):
        loader = module(spoiled, on_bad="drop").train_dataloader()
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                (batch,) = loader
                assert sorted(batch["index"].tolist()) == [0, 2]
        assert len(caplog.records) == 1, "reported once"
        assert re.search(words, caplog.text)
        assert "left out" in caplog.text

    def test_drop_on_several_processes(self, spoiled, words, has_image, ranks):
        ranks(2, 0)
        for batch in module(spoiled, on_bad="drop", batch_size=3, drop_last=False).train_dataloader():
            assert len(batch["index"]) == 2
            assert 1 not in batch["index"]

    def test_unconstrained(self, spoiled, words, has_image, caplog):
        (batch,) = module(spoiled, on_bad="unconstrained").train_dataloader()
        assert sorted(batch["index"].tolist()) == ([0, 1, 2] if has_image else [0, 2])
        empty = ~batch["query_mask"].flatten(1).bool().any(1)
        assert batch["index"][empty].tolist() == ([1] if has_image else [])
        assert re.search(words, caplog.text)


def test_intentionally_missing_masks(tmp_path, caplog):
    metadata = json.dumps({"image": "b.jpg", "mask": None}).encode()
    url = write(tmp_path / "0.tar", {"a": sample(0), "b": {"jpg": sample(1)["jpg"], "json": metadata}})
    (batch,) = module(url).train_dataloader()
    empty = ~batch["query_mask"].flatten(1).bool().any(1)
    assert batch["index"][empty].tolist() == [1]
    assert not caplog.records


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("on_bad", ["error", "drop"])
def test_damaged_shard_stops_training(folder, tmp_path, workers, on_bad):
    shard = tmp_path / "0.tar"
    data = (folder / "2.tar").read_bytes()
    shard.write_bytes(data)
    loader = module(str(shard), workers=workers, on_bad=on_bad, val_urls=str(folder / "0.tar")).train_dataloader()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(SampleError, match=r"0\.tar: ") as caught:
        list(loader)
    assert "\n" not in str(caught.value)
    if workers:
        # As Lightning does. After an error, the garbage collector takes seconds for it.
        loader._iterator._shutdown_workers()


def test_bad_arguments(folder, tmp_path):
    for options, words in {
        ("urls", f"{tmp_path}/{{0..3}}.tar"): "0.tar does not exist",
        ("val_urls", f"{tmp_path}/*.tar"): "val_urls=.* matches nothing",
        ("val_count", 0): "val_count must be at least 1",
        ("shuffle", -1): "shuffle must be at least 0",
        ("on_bad", "ignore"): "on_bad must be one of",
        ("masks", ""): "masks must be auto",
    }.items():
        with pytest.raises((InputError, FileNotFoundError), match=words):
            module(**{"urls": folder, options[0]: options[1]}).setup()
    with pytest.raises(InputError, match="have no samples"):
        module(str(folder / "3.tar")).setup()


class Network(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, batch["index"].tolist()))
        return self.layer(batch["query"].mean((2, 3))).mean()

    def validation_step(self, batch, index):
        self.seen.append(("val", batch["index"].tolist()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*GPU available")
def test_with_a_trainer(folder, tmp_path, caplog):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=2, enable_checkpointing=False, **options)
    network, data = Network(), module(folder, val_count=4)
    trainer.fit(network, data)
    loader = module(folder).train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        assert [seen for name, seen in network.seen if name == epoch] == indices(loader)
    assert (tmp_path / "data_report.csv").read_text().count("\n") == 1
    assert len(json.loads((tmp_path / "castlit_index" / "shard_counts.json").read_text())["shards"]) == 6


def test_exif_orientation(tmp_path):
    image = Image.fromarray(photo(0))
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    url = write(tmp_path / "0.tar", {"a": {"jpg": file.getvalue(), "mask.png": encoded(mask(0, (32, 24)), ".png")}})
    item = module(url).sources[1].read(0)
    assert item.image.shape == (32, 24, 3)
    assert item.mask.shape == (32, 24)
    (batch,) = module(url).train_dataloader()
    assert batch["query_mask"].any()


@pytest.mark.parametrize("metadata", [b"", b"{", b"[1]", b'{"image": 3}', b"\xff", b"[" * 100_000], ids=len)
def test_metadata_of_other_programs(tmp_path, metadata):
    url = write(tmp_path / "0.tar", {"a": {**sample(0), "json": metadata}})
    data = ShardsDataModule(url, size=32, batch_size=1, workers=0)
    assert next(iter(data.train_dataloader()))["query_mask"].any()


def test_views_of_pipelines(folder):
    views = {name: [SaliencyCrop(16)] for name in ("query", "key")}
    own = list(module(folder).train_dataloader())
    for workers in (0, 2):
        made = list(module(folder, workers=workers, views=views, colours="moco_v2", flip=0.5).train_dataloader())
        assert len(made) == len(own) > 1
        for a, b in zip(own, made, strict=True):
            assert torch.equal(a["index"], b["index"])
            assert torch.equal(a["query_mask"], b["query_mask"])
            assert torch.equal(a["key_mask"], b["key_mask"])
